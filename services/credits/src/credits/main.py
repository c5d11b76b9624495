import argparse
import gc

import uvicorn
from starlette.types import ASGIApp

from common.health import QuietServer, open_ops_port
from common.lifecycle import run, serve_until_stopped
from common.logs import configure_logs, get_logger
from common.migrations import migrate
from common.settings import settings_or_exit
from credits.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(prog="credits", description="Owns every balance.")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    command = parser.parse_args().command
    settings = settings_or_exit(Settings)
    configure_logs("credits", settings.log_level)
    run(_migrate(settings) if command == "migrate" else _serve(settings))


async def _migrate(settings: Settings) -> None:
    for name in await migrate(settings, "credits", "credits"):
        get_logger(__name__).info("migrated", migration=name)


async def _serve(settings: Settings) -> None:
    from credits.app import make_app  # noqa: PLC0415 - `migrate` starts without the whole service
    from credits.wiring import open_credits  # noqa: PLC0415 - `migrate` starts without the whole service

    async with (
        open_credits(settings) as service,
        open_ops_port(settings, service.checks),
    ):
        server = QuietServer(_uvicorn(settings, make_app(service)))
        # What lives as long as the process is not looked through again at every collection of garbage.
        gc.freeze()
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
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(settings.operation_s) + 1,
    )
