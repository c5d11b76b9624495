import uvicorn
from starlette.types import ASGIApp

from common.command import serve_or_migrate
from common.health import QuietServer, open_ops_port
from common.lifecycle import collect_garbage_rarely, serve_until_stopped
from credits.settings import Settings

# Longer than the gateway's client keeps an idle connection (15 s): who asks must be the one who closes.
_KEEP_ALIVE_S = 30


def main() -> None:
    serve_or_migrate("credits", "Owns every balance.", Settings, serve=_serve)


async def _serve(settings: Settings) -> None:
    from credits.app import make_app  # noqa: PLC0415 - `migrate` starts without the whole service
    from credits.wiring import open_credits  # noqa: PLC0415 - `migrate` starts without the whole service

    async with (
        open_credits(settings) as service,
        open_ops_port(settings, service.checks),
    ):
        server = QuietServer(_uvicorn(settings, make_app(service)))
        collect_garbage_rarely()
        # The port last, so that it stops first: callers get their answers before the ledger goes.
        await serve_until_stopped(server)


def _uvicorn(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.server_host,
        port=settings.server_port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.operation_s) + 1,
    )
