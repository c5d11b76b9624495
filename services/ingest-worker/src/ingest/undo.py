"""Undo: the dataset is exactly as if an upload had never been loaded (docs/decisions/0007-dataset-table.md).

Readers leave the upload out from the first step on, by the history, which loses nothing in merges. Meanwhile its rows
go from the current table, what they had replaced comes back there, and last of all they go from the history. Whoever
dies on the way is followed by one who begins again: every step can be repeated.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Datasets
from common.errors import Permanent, Transient
from common.faultpoints import faultpoint
from common.ids import new_id
from common.postgres import Connection
from ingest.dataset_versions import include
from ingest.jobs import Job
from ingest.manifest import Manifest
from ingest.table_schema import row_columns
from ingest.undo_begin import begin_undo
from ingest.warehouse import outages_are_transient

# Of the tries to delete everything: a loader that was frozen in mid-insert may bring rows while they are deleted.
_TURNS_MAX = 5


class Undo:
    def __init__(
        self,
        manifest: Manifest,
        clickhouse: AsyncClient,
        datasets: Datasets,
        *,
        readers_wait_s: float,
        stalled_s: float,
    ) -> None:
        """`readers_wait_s`: how long until every reader knows what to leave out."""
        self._manifest, self._clickhouse, self._datasets = manifest, clickhouse, datasets
        self._readers_wait_s, self._stalled_s = readers_wait_s, stalled_s

    async def accept(self, connection: Connection, job: Job) -> None:
        """Step 1. From here on no chunk of the upload begins, and readers leave its rows out."""
        assert job.upload_id is not None  # noqa: S101 - a command of this kind has one
        await begin_undo(connection, job.upload_id)

    async def run(self, job: Job) -> Mapping[str, Any]:
        """Steps 2 to 7. Raises Transient while a loader is still at work on the upload."""
        assert job.upload_id is not None  # noqa: S101 - as above
        faultpoint("undo.excluded")
        await self._wait_for_loaders(job.upload_id)
        await asyncio.sleep(self._readers_wait_s)
        deleted = await self._remove(job.dataset, job.upload_id)
        faultpoint("undo.removed")
        async with self._manifest.transaction() as connection:
            await _end_undo(connection, job.dataset, job.upload_id)
        faultpoint("undo.done")
        return {"rows": deleted}

    async def _wait_for_loaders(self, upload_id: UUID) -> None:
        async with self._manifest.connection() as connection:
            if await connection.fetchval(_RUNNING, upload_id, self._stalled_s):
                raise Transient(f"a chunk of {upload_id} is still being loaded")

    async def _remove(self, name: str, upload_id: UUID) -> int:
        dataset = self._datasets.get(name)
        if dataset is None:
            raise Permanent(f"there is no dataset {name}: its declaration is needed to undo an upload of it")
        names = {"current": dataset.name, "history": dataset.history, "columns": ", ".join(row_columns(dataset))}
        deleted = 0
        for _ in range(_TURNS_MAX):
            there = await self._count(names, upload_id)
            if not there:
                return deleted
            deleted = max(deleted, there)
            await self._do(_FROM_CURRENT.format(**names), upload_id)
            faultpoint("undo.current_deleted")
            await self._restore(name, names)
            faultpoint("undo.restored")
            await self._do(_FROM_HISTORY.format(**names), upload_id)
            faultpoint("undo.history_deleted")
        raise Transient(f"rows of {upload_id} keep arriving")

    async def _restore(self, dataset: str, names: Mapping[str, str]) -> None:
        """The newest version that is left of every identity that an excluded upload had touched.

        Never deduplicated: undone for the second time, an upload makes the same block as before.
        """
        async with self._manifest.connection() as connection:
            excluded = list(await connection.fetchval(_EXCLUDED, dataset) or ())
        async with outages_are_transient():
            await self._clickhouse.command(
                _RESTORE.format(**names),
                parameters={"excluded": excluded},
                settings={"insert_deduplicate": 0, "log_comment": str(new_id())},
            )

    async def _do(self, statement: str, upload_id: UUID) -> None:
        async with outages_are_transient():
            await self._clickhouse.command(statement, parameters={"upload": str(upload_id)})

    async def _count(self, names: Mapping[str, str], upload_id: UUID) -> int:
        async with outages_are_transient():
            found = await self._clickhouse.query(_ROWS_OF.format(**names), parameters={"upload": str(upload_id)})
            return int(found.result_rows[0][0])


# Waits until it is done. Rows that are inserted later are not deleted.
_FROM_CURRENT = "DELETE FROM {current} WHERE upload_id = {{upload:String}}"
_FROM_HISTORY = "DELETE FROM {history} WHERE upload_id = {{upload:String}}"
# The order matters: restored rows are older than those of the upload, and a merge would fold them into these.
_RESTORE = """
    INSERT INTO {current} ({columns})
    SELECT {columns} FROM (
        SELECT * FROM {history}
         WHERE dedupe_key IN (SELECT dedupe_key FROM {history} WHERE has({{excluded:Array(String)}}, upload_id))
           AND NOT has({{excluded:Array(String)}}, upload_id)
         ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key)
"""
_ROWS_OF = """
    SELECT greatest((SELECT count() FROM {current} WHERE upload_id = {{upload:String}}),
                    (SELECT count() FROM {history} WHERE upload_id = {{upload:String}}))
"""
_EXCLUDED = "SELECT excluded FROM ingest.dataset_versions WHERE dataset = $1"
_RUNNING = """
    SELECT EXISTS (SELECT FROM ingest.chunks
                    WHERE upload_id = $1 AND running AND progress_at > now() - make_interval(secs => $2))
"""
_UNDONE = """
    UPDATE ingest.uploads
       SET state = CASE state WHEN 'undoing' THEN 'undone' ELSE state END,
           rows_accepted = CASE state WHEN 'failed' THEN 0 ELSE rows_accepted END,
           finished_at = CASE state WHEN 'undoing' THEN now() ELSE finished_at END
     WHERE upload_id = $1 AND state IN ('undoing', 'failed')
"""


async def _end_undo(connection: Connection, dataset: str, upload_id: UUID) -> None:
    await connection.execute(_UNDONE, upload_id)
    await include(connection, dataset, upload_id)
