"""Retention: what a dataset's declaration says is kept for so many days goes after them: rows, objects, rejects."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import obstore
from clickhouse_connect.driver.asyncclient import AsyncClient
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from common.bucket import announcement_key
from common.clock import Clock
from common.datasets import Dataset, Datasets
from common.errors import Transient
from common.logs import get_logger
from ingest.dataset_versions import raise_version
from ingest.jobs import Jobs
from ingest.manifest import Manifest
from ingest.table_schema import row_columns
from ingest.warehouse import outages_are_transient

_OBJECTS_AT_ONCE = 1000

_log = get_logger(__name__)


@dataclass(frozen=True)
class Retention:
    manifest: Manifest
    bucket: ObjectStore
    clickhouse: AsyncClient
    datasets: Datasets
    jobs: Jobs
    clock: Clock

    async def apply(self) -> None:
        """Of every dataset on which nobody else is at work; the others have their turn next time."""
        for dataset in self.datasets.values():
            async with self.jobs.alone_on(dataset.name) as alone:
                if alone:
                    await self._rows(dataset)
                    await self._rejects(dataset)
                    await self._objects(dataset)

    async def _rows(self, dataset: Dataset) -> None:
        if dataset.retention.rows is None:
            return
        before = self._before(dataset.retention.rows)
        names = {"current": dataset.name, "history": dataset.history, "columns": ", ".join(row_columns(dataset))}
        async with outages_are_transient():
            found = await self.clickhouse.query(_OLD.format(**names), parameters=before)
            if not int(found.result_rows[0][0]):
                return
            # The history first: from it an undo would bring the others back.
            for statement in (_FROM_HISTORY, _FROM_CURRENT):
                await self.clickhouse.command(statement.format(**names), parameters=before)
            # Who was loaded lately by an older version was hidden behind what is gone.
            await self.clickhouse.command(_BRING_BACK.format(**names), settings={"insert_deduplicate": 0})
        async with self.manifest.connection() as connection:
            await raise_version(connection, dataset.name)
        _log.info("rows removed by retention", dataset=dataset.name, rows=int(found.result_rows[0][0]))

    async def _rejects(self, dataset: Dataset) -> None:
        if dataset.retention.quarantine is None:
            return
        bound = self._before(dataset.retention.quarantine) | {"dataset": dataset.name}
        async with outages_are_transient():
            found = await self.clickhouse.query(_OLD_REJECTS, parameters=bound)
            if int(found.result_rows[0][0]):
                await self.clickhouse.command(_FROM_QUARANTINE, parameters=bound)

    async def _objects(self, dataset: Dataset) -> None:
        """The file first, its announcement after it, the note last: whatever breaks off is done again."""
        if dataset.retention.objects is None:
            return
        before = self.clock.now() - timedelta(days=dataset.retention.objects)
        async with self.manifest.connection() as connection:
            old = await connection.fetch(_OLD_OBJECTS, dataset.name, before, _OBJECTS_AT_ONCE)
        for upload in old:
            for key in (upload["object_key"], announcement_key(upload["upload_id"])):
                await self._remove(key)
            async with self.manifest.connection() as connection:
                await connection.execute(_REMOVED, upload["upload_id"])
        if old:
            _log.info("objects removed by retention", dataset=dataset.name, objects=len(old))

    async def _remove(self, key: str) -> None:
        try:
            await obstore.delete_async(self.bucket, key)
        except FileNotFoundError:
            return
        except (OSError, BaseError) as exc:
            raise Transient(f"the bucket does not answer: {exc}") from exc

    def _before(self, days: int) -> dict[str, datetime | str]:
        return {"before": self.clock.now() - timedelta(days=days)}


_OLD = "SELECT count() FROM {history} WHERE ingest_ts < {{before:DateTime64(6, 'UTC')}}"
_FROM_HISTORY = "DELETE FROM {history} WHERE ingest_ts < {{before:DateTime64(6, 'UTC')}}"
_FROM_CURRENT = "DELETE FROM {current} WHERE ingest_ts < {{before:DateTime64(6, 'UTC')}}"
_BRING_BACK = """
    INSERT INTO {current} ({columns})
    SELECT {columns} FROM (
        SELECT * FROM {history} WHERE dedupe_key NOT IN (SELECT dedupe_key FROM {current})
         ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key)
"""
_OLD_REJECTS = """
    SELECT count() FROM quarantine WHERE dataset = {dataset:String} AND ts < {before:DateTime64(6, 'UTC')}
"""
_FROM_QUARANTINE = "DELETE FROM quarantine WHERE dataset = {dataset:String} AND ts < {before:DateTime64(6, 'UTC')}"
_OLD_OBJECTS = """
    SELECT upload_id, object_key FROM ingest.uploads
     WHERE dataset = $1 AND received_at < $2 AND object_removed_at IS NULL
       AND (finished_at IS NOT NULL OR state = 'duplicate')
     ORDER BY received_at LIMIT $3
"""
_REMOVED = "UPDATE ingest.uploads SET object_removed_at = now() WHERE upload_id = $1"
