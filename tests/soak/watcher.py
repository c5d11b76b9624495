"""Whoever watches the processes, as an orchestrator does: what is dead or says that it is stuck is started again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx

from devstack.process import StackError
from devstack.services import SERVICES
from devstack.stack import Stack

_LOOK_S = 2.0
_FAILURES_MAX = 3


@asynccontextmanager
async def watched(stack: Stack, restarted: Counter[str]) -> AsyncIterator[None]:
    """Inside the block; notes how often which part had to be started."""
    watching = asyncio.create_task(_watch(stack, restarted))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _watch(stack: Stack, restarted: Counter[str]) -> None:
    failures: Counter[str] = Counter()
    while True:
        for name in stack.status().dead:
            restarted[name] += 1
            with suppress(StackError):
                await stack.start(name)
        for name in SERVICES:
            failures[name] = 0 if await _alive(stack, name) else failures[name] + 1
            if failures[name] >= _FAILURES_MAX:
                restarted[name] += 1
                failures[name] = 0
                with suppress(StackError):
                    await stack.restart(name)
        await asyncio.sleep(_LOOK_S)


async def _alive(stack: Stack, name: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            return (await http.get(f"{stack.ops_url(name)}/healthz")).is_success
    except httpx.HTTPError:
        return False
