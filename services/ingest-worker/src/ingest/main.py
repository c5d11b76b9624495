"""`python -m ingest serve` (the default) or `python -m ingest migrate`."""

import sys

from common.clickhouse import open_clickhouse
from common.command import serve_or_migrate
from common.datasets import load_datasets
from common.errors import Transient
from common.lifecycle import collect_garbage_rarely, until_stopped
from common.logs import get_logger
from common.migrations import migrate
from ingest import quarantine
from ingest.settings import Settings
from ingest.table_schema import TableDiffers, ensure_tables

_log = get_logger(__name__)


def main() -> None:
    serve_or_migrate("ingest-worker", "Turns files and records into rows.", Settings, serve=_serve, migrate=_migrate)


async def _serve(settings: Settings) -> None:
    from ingest.wiring import open_worker  # noqa: PLC0415 - `migrate` starts without the whole service

    async with open_worker(settings):
        collect_garbage_rarely(every=200_000)
        _log.info("serving")
        await until_stopped()


async def _migrate(settings: Settings) -> None:
    """Both stores. A declaration that the table cannot follow stops here, with the way to do it."""
    applied = await migrate(settings, "ingest", "ingest")
    datasets = load_datasets(settings.datasets_folder)
    try:
        async with open_clickhouse(settings) as clickhouse:
            await quarantine.ensure_table(clickhouse)
            changed = {
                name: changes
                for name, dataset in datasets.items()
                if (changes := await ensure_tables(clickhouse, dataset))
            }
    except (TableDiffers, Transient) as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(1)
    _log.info("migrated", applied=applied, tables=changed)
