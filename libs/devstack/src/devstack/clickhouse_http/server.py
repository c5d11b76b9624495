"""Start and stop: the order matters, because leaving the interpreter while a query runs is a segmentation fault."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn

from devstack.clickhouse_http.answer import Desk
from devstack.clickhouse_http.app import ClickHouseHttp
from devstack.clickhouse_http.engine import CannotOpenEngine, Engine
from devstack.clickhouse_http.running import RunningQueries
from devstack.clickhouse_http.users import Passwords

log = logging.getLogger(__name__)

# Reads are killed at once; this is for inserts and their clients.
GRACE_S: Final = 20


class CannotStart(Exception):
    """One line that says what is in the way."""


@dataclass(frozen=True)
class Settings:
    folder: Path
    host: str
    port: int
    passwords: Passwords
    display_name: str = "devstack"


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; raise CannotStart for a taken port or a locked folder."""
    # The port first: it is the cheaper of the two to find taken.
    with _listen(settings.host, settings.port) as listener:
        try:
            engine = Engine(settings.folder)
        except CannotOpenEngine as exc:
            raise CannotStart(f"cannot open the data folder {settings.folder}: {exc}") from exc
        app = ClickHouseHttp(Desk(engine, RunningQueries(engine), settings.display_name), settings.passwords)
        try:
            _Server(app).run(sockets=[listener])
        finally:
            app.close()
            engine.close()
    log.info("clickhouse_http_stopped")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Not before the engine is open: until then a client is refused rather than left waiting.
    except OSError as exc:
        listener.close()
        raise CannotStart(f"cannot listen on {host}:{port}: {exc.strerror}") from exc
    return listener


class _Server(uvicorn.Server):
    """Uvicorn raises the signal again on its way out, before anything could be closed: this one does not."""

    def __init__(self, app: ClickHouseHttp) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="none",
                server_header=False,
                # Long: a client that meets a connection just closed sends its INSERT a second time.
                timeout_keep_alive=600,
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {name: signal.signal(name, self.handle_exit) for name in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            # A second signal must not end the process while the engine is being closed.
            for name in before:
                signal.signal(name, signal.SIG_IGN)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as exc:
            # Two processes may bind one port as long as neither listens; this is the later one.
            raise CannotStart(f"cannot listen: {exc.strerror}") from exc

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._app.stop_reads()
        await super().shutdown(sockets)
