"""`python -m audit serve` (the default) or `python -m audit migrate`."""

import gc

from audit.settings import Settings
from common.command import serve_or_migrate
from common.lifecycle import until_stopped
from common.logs import get_logger

# A batch is tens of thousands of small objects without cycles: looking for some every 700 took a fifth of the time.
_GC_THRESHOLD = 200_000

_log = get_logger(__name__)


def main() -> None:
    serve_or_migrate("audit-logger", "Keeps the log of every request.", Settings, serve=_serve)


async def _serve(settings: Settings) -> None:
    from audit.wiring import open_audit_logger  # noqa: PLC0415 - `migrate` starts without the whole service

    gc.set_threshold(_GC_THRESHOLD)
    async with open_audit_logger(settings):
        _log.info("serving")
        await until_stopped()
