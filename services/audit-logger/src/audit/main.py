"""`python -m audit serve` (the default) or `python -m audit migrate`."""

from audit.settings import Settings
from common.command import serve_or_migrate
from common.lifecycle import collect_garbage_rarely, until_stopped
from common.logs import get_logger

_log = get_logger(__name__)


def main() -> None:
    serve_or_migrate("audit-logger", "Keeps the log of every request.", Settings, serve=_serve)


async def _serve(settings: Settings) -> None:
    from audit.wiring import open_audit_logger  # noqa: PLC0415 - `migrate` starts without the whole service

    async with open_audit_logger(settings):
        collect_garbage_rarely(every=200_000)
        _log.info("serving")
        await until_stopped()
