"""Tests wait for a condition with a deadline; they never sleep and hope."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    what: str, condition: Callable[[], Awaitable[T]], *, deadline_s: float = 20, every_s: float = 0.05
) -> T:
    """The condition's first true value. Fails with what was waited for, and the last value seen."""
    end = time.monotonic() + deadline_s
    while True:
        last = await condition()
        if last:
            return last
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s:g} s for {what}; last seen: {last!r}")
        await asyncio.sleep(every_s)


async def eventually(condition: Callable[[], object], *, deadline_s: float = 5, every_s: float = 0.005) -> None:
    """Wait for something in this process to become true."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s:g} s in vain")
        await asyncio.sleep(every_s)
