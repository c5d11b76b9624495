"""`python -m audit serve` (the default) or `python -m audit migrate`."""

import argparse
import gc

from audit.settings import Settings
from common.lifecycle import run, until_stopped
from common.logs import configure_logs, get_logger
from common.migrations import migrate
from common.settings import settings_or_exit

# A batch is tens of thousands of small objects without cycles: looking for some every 700 took a fifth of the time.
_GC_THRESHOLD = 200_000

_log = get_logger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(prog="audit", description="Keeps the log of every request.")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    command: str = parser.parse_args().command
    settings = settings_or_exit(Settings)
    configure_logs("audit-logger", settings.log_level)
    gc.set_threshold(_GC_THRESHOLD)
    run(_serve(settings) if command == "serve" else _migrate(settings))


async def _serve(settings: Settings) -> None:
    from audit.wiring import open_audit_logger  # noqa: PLC0415 - `migrate` starts without the whole service

    async with open_audit_logger(settings):
        _log.info("serving")
        await until_stopped()


async def _migrate(settings: Settings) -> None:
    applied = await migrate(settings, "audit", "audit")
    _log.info("migrated", applied=applied)
