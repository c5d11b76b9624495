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


def collect_garbage_rarely(*, every: int = 20_000) -> None:
    """What is there now lives as long as the process and is never looked through again. For the rest Python looks
    every 700 objects that stay: about 3 % of a server's time, and a fifth of one that holds batches.
    """
    gc.freeze()
    gc.set_threshold(every)


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
