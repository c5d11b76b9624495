"""Making a planned fault, ending it, and how long everything needs to be well again (invariant I8)."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import dataclass

import asyncpg

from devstack.stack import Stack
from soak.schedule import Planned
from soak.watcher import watched
from support.recovery import Recovery, recovery

_WELL_S = 120.0
# Longer than a broker waits for a member that says nothing.
_EVICTED_S = 15.0
_CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Survived:
    """`at_s`: since the load began."""

    planned: Planned
    at_s: float
    took: Recovery


async def make(planned: Planned, stack: Stack, at_s: float, restarted: Counter[str]) -> Survived:
    """Recovery is counted from the end of the fault: a part that was killed has to start first.

    Somebody watches meanwhile, and notes in `restarted` what had to be started besides.
    """
    kind, _, name = planned.fault.partition(" ")
    held_down = kind in {"kill", "stop"}
    match kind:
        case "kill":
            await stack.kill(name)
            await asyncio.sleep(planned.lasts_s)
        case "stop":
            await stack.stop(name)
            await asyncio.sleep(planned.lasts_s)
        case "freeze" | "evict":
            await stack.kill(name, signal.SIGSTOP)
            await asyncio.sleep(planned.lasts_s + (_EVICTED_S if kind == "evict" else 0))
            await stack.kill(name, signal.SIGCONT)
        case "cut":
            await _cut_postgres(stack)
        case _:
            raise ValueError(planned.fault)
    looking = asyncio.create_task(recovery(stack, time.monotonic(), deadline_s=_WELL_S))
    if held_down:
        await stack.start(name)
    async with watched(stack, restarted):
        return Survived(planned, at_s, await looking)


async def _cut_postgres(stack: Stack) -> None:
    connection = await asyncpg.connect(str(stack.status().postgres), timeout=10)
    try:
        await connection.execute(_CUT)
    finally:
        connection.terminate()
