"""Starting and stopping a process: what SIGTERM does, in one place."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvloop

from common.health import QuietServer
from common.logs import get_logger

_log = get_logger(__name__)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# A batch is tens of thousands of small objects without cycles: looking for some every 700 took a fifth of the time.
_GARBAGE_LOOKED_FOR_EVERY = 200_000


def expect_batches() -> None:
    """For processes that hold many small objects for a moment. What is there now is never looked through again."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_LOOKED_FOR_EVERY)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main coroutine on uvloop. A signal before `until_stopped` cancels it, so what is open closes."""
    with suppress(asyncio.CancelledError):
        uvloop.run(_cancelled_by_signals(main))


async def _cancelled_by_signals(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(main)
    for kind in _STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(kind, task.cancel)
    await task


async def until_stopped() -> None:
    """Return at the first SIGTERM or SIGINT. What is open then closes in reverse order, intake first."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for kind in _STOP_SIGNALS:
        loop.add_signal_handler(kind, stop.set)
    await stop.wait()
    _log.info("stopping")


async def serve_until_stopped(server: QuietServer, told: asyncio.Event | None = None) -> None:
    """Serve HTTP until SIGTERM, then finish what is in flight within uvicorn's graceful timeout.

    `told` is set at that moment, for answers that go on until somebody leaves.
    """
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(until_stopped())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if told is not None:
        told.set()
    server.should_exit = True
    await serving


async def forever(what: str, step: Callable[[], Awaitable[None]], *, pause_s: float) -> None:
    """Repeat a step until cancelled. A step that fails is logged and tried again after the pause."""
    while True:
        try:
            await step()
        except Exception:  # noqa: BLE001 - the loop outlives every fault of one step
            _log.exception("step failed, trying again", step=what, pause_s=pause_s)
        await asyncio.sleep(pause_s)


@asynccontextmanager
async def in_background(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops beside the body; at its end they are cancelled, and gone before what they use closes."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
