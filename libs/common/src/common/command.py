"""`python -m <service> serve | migrate`: how every service's process begins."""

import argparse
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from common import migrations
from common.lifecycle import run
from common.logs import configure_logs, get_logger
from common.settings import PostgresSettings, settings_or_exit
from common.tracing import tracing

S = TypeVar("S", bound=PostgresSettings)
Main = Callable[[S], Coroutine[Any, Any, None]]


async def migrate_schema(settings: PostgresSettings) -> None:
    """Bring the schema of this service's name up to date, from the migrations in its package."""
    applied = await migrations.migrate(settings, settings.config_section, settings.config_section)
    get_logger(__name__).info("migrated", applied=applied)


def serve_or_migrate(
    process: str, what: str, settings_class: type[S], *, serve: Main[S], migrate: Main[S] = migrate_schema
) -> None:
    """Read the command line, build the settings once, send logs to stderr, and run what was asked for until it ends.

    `serve` imports the rest of its service itself, so that a migration starts without it.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {settings_class.config_section}", description=what)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    command: str = parser.parse_args().command
    settings = settings_or_exit(settings_class)
    configure_logs(process, settings.log_level)
    with tracing(process, settings):
        run(serve(settings) if command == "serve" else migrate(settings))
