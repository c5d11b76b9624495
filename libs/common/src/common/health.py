"""The operator's port of every process: /healthz (alive), /readyz (can serve), /metrics. Never the public port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Literal, TypeAlias

import orjson
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from common.settings import ProcessSettings

Check: TypeAlias = Callable[[], Awaitable[object]]
State: TypeAlias = Literal["healthy", "unhealthy"]
_CHECK_S = 2.0
_PROBES = frozenset({"/healthz", "/readyz"})


async def check_all(checks: Mapping[str, Check], deadline_s: float = _CHECK_S) -> dict[str, State]:
    """Ask every dependency at once. One that raises or is slower than the deadline is unhealthy."""

    async def one(check: Check) -> State:
        try:
            await asyncio.wait_for(check(), deadline_s)
        except Exception:  # noqa: BLE001 - whatever it is, the dependency cannot be used
            return "unhealthy"
        return "healthy"

    states = await asyncio.gather(*(one(check) for check in checks.values()))
    return dict(zip(checks, states, strict=True))


def ops_app(checks: Mapping[str, Check], alive: Check | None = None) -> Starlette:
    async def healthz(_: Request) -> Response:
        states = await check_all({"alive": alive} if alive else {})
        stuck = "unhealthy" in states.values()
        return Response("stuck\n" if stuck else "ok\n", status_code=503 if stuck else 200)

    async def readyz(_: Request) -> Response:
        states = await check_all(checks)
        ready = all(state == "healthy" for state in states.values())
        return Response(orjson.dumps(states), status_code=200 if ready else 503, media_type="application/json")

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


@asynccontextmanager
async def open_ops_port(
    settings: ProcessSettings, checks: Mapping[str, Check], *, alive: Check | None = None
) -> AsyncIterator[None]:
    """Serve the operator's port beside whatever the process does; the process keeps its own signal handling.

    `alive` is for what can be stuck while it answers (a consumer): when it raises, /healthz answers 503.
    """
    server = QuietServer(
        uvicorn.Config(
            ops_app(checks, alive), host=settings.ops_host, port=settings.ops_port, log_config=None, access_log=False
        )
    )
    serving = asyncio.create_task(server.serve())
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class Probes:
    """/healthz and /readyz of load balancers on a port that serves something else: what is wrapped never sees them."""

    def __init__(self, app: ASGIApp, probes: ASGIApp) -> None:
        self._app = app
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = self._probes if scope.get("path") in _PROBES else self._app
        await asked(scope, receive, send)


class QuietServer(uvicorn.Server):
    """A uvicorn server that leaves signals to the process that embeds it.

    Uvicorn alone installs its own handlers and raises the signal again before clean-up has run.
    """

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()
