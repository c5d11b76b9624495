"""Making a planned fault, ending it, and how long everything needs to be well again (invariant I8)."""

import asyncio
import signal
import time
from dataclasses import dataclass

import asyncpg
import httpx

from devstack.stack import Stack
from soak.schedule import Planned

_WELL_S = 90.0
_CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Survived:
    planned: Planned
    well_again_s: float | None


async def make(planned: Planned, stack: Stack) -> Survived:
    """Recovery is counted from the end of the fault: a part that was killed has to start first."""
    ended = await _make(planned, stack)
    return Survived(planned, await _well_again(stack, ended))


async def _make(planned: Planned, stack: Stack) -> float:
    """The moment, of time.monotonic, at which nothing is held down any more."""
    kind, _, name = planned.fault.partition(" ")
    match kind:
        case "kill":
            await stack.kill(name)
            await asyncio.sleep(planned.lasts_s)
            ended = time.monotonic()
            await stack.start(name)
        case "freeze":
            await stack.kill(name, signal.SIGSTOP)
            await asyncio.sleep(planned.lasts_s)
            await stack.kill(name, signal.SIGCONT)
            ended = time.monotonic()
        case "stop":
            await stack.stop(name)
            await asyncio.sleep(planned.lasts_s)
            ended = time.monotonic()
            await stack.start(name)
        case "cut":
            await _cut_postgres(stack)
            ended = time.monotonic()
        case _:
            raise ValueError(planned.fault)
    return ended


async def _cut_postgres(stack: Stack) -> None:
    connection = await asyncpg.connect(str(stack.status().postgres), timeout=10)
    try:
        await connection.execute(_CUT)
    finally:
        connection.terminate()


async def _well_again(stack: Stack, began: float) -> float | None:
    """Seconds until the gateway says that everything is healthy; None past the deadline."""
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=5) as client:
        while (passed := time.monotonic() - began) < _WELL_S:
            try:
                if (await client.get("/v1/health")).status_code == httpx.codes.OK:
                    return round(passed, 2)
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    return None
