"""Memory of every process over the whole run: flat, or growing."""

import asyncio
import os
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import psutil

from devstack.services import SERVICES
from devstack.stack import Stack

_EVERY_S = 5.0
# Of a third of a run. What is loaded stays loaded: a process that just began is smaller than it will be.
_GROWTH_MAX, _SLACK_MB = 1.25, 40


class Memory:
    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy: list[float] = []
        self._seen: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def note(self, stack: Stack) -> None:
        now = time.monotonic() - self._began
        self._busy.append(os.getloadavg()[0])
        for name, one in stack.status().processes.items():
            if one.state == "running" and (size := _size_mb(one.pid)):
                self._seen[name].append((now, size))

    def machine(self) -> str:
        """Whoever reads recovery times wants to know who else was at work."""
        return f"{os.cpu_count()} cores, load {statistics.median(self._busy):.0f}"

    def thirds(self) -> dict[str, tuple[int, int]]:
        """Of each part the median of the first and of the last third, in MB."""
        length = time.monotonic() - self._began
        return {
            name: (_median(seen, 0, length / 3), _median(seen, length * 2 / 3, length))
            for name, seen in sorted(self._seen.items())
        }

    def grown(self) -> Mapping[str, tuple[int, int]]:
        """Processes of ours that are not flat. Servers keep what they cache, within limits of their own."""
        return {
            name: (first, last)
            for name, (first, last) in self.thirds().items()
            if name.removesuffix("-2") in SERVICES and last > first * _GROWTH_MAX + _SLACK_MB
        }


@asynccontextmanager
async def measured(stack: Stack) -> AsyncIterator[Memory]:
    memory = Memory()

    async def look() -> None:
        while True:
            memory.note(stack)
            await asyncio.sleep(_EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield memory
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def _median(seen: list[tuple[float, int]], begin: float, end: float) -> int:
    return round(statistics.median([size for at, size in seen if begin <= at <= end] or [0]))


def _size_mb(pid: int) -> int:
    """With its children, but those of PostgreSQL count what they share again and again: of them only the first."""
    try:
        leader = psutil.Process(pid)
        family = [leader] if "postgres" in leader.name() else [leader, *leader.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) >> 20
    except psutil.Error:
        return 0
