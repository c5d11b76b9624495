"""Erasure: one person's rows go from the history and the current table, what quarantine kept of them is blanked, and a
hash stays behind that keeps replays and reloads from bringing them back (docs/decisions/0015-erasure-and-retention.md).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Dataset, Datasets
from common.errors import Permanent, Transient
from common.faultpoints import faultpoint
from common.postgres import Connection
from ingest.dataset_versions import raise_version
from ingest.erased import hash_of
from ingest.jobs import Job
from ingest.manifest import Manifest
from ingest.record_erasures import wait_for_records
from ingest.undo_begin import Refused
from ingest.warehouse import outages_are_transient

_TURNS_MAX = 5
_DIGITS_KEPT = 8  # of a phone number, the last: what every notation of it has in common
# Loaders that know of the erasure make no such rows, so waiting for the others ends.
_TEXT = frozenset({"string", "country", "enum"})


class Erase:
    def __init__(self, manifest: Manifest, clickhouse: AsyncClient, datasets: Datasets, *, stalled_s: float) -> None:
        self._manifest, self._clickhouse, self._datasets = manifest, clickhouse, datasets
        self._stalled_s = stalled_s

    async def accept(self, connection: Connection, job: Job) -> None:
        """From here on no chunk that begins loads this value from an object that is there already."""
        dataset, column = self._datasets.get(job.dataset), str(job.body["column"])
        if dataset is None:
            raise Refused(f"there is no dataset {job.dataset}")
        if (column,) not in dataset.identity or dataset.columns[column].parsed.kind not in _TEXT:
            raise Refused(f"{column} does not identify anybody by itself in {job.dataset}")
        digest = hash_of(job.dataset, column, str(job.body["value"]))
        await connection.execute(_ADD_TOMBSTONE, job.dataset, column, digest)

    async def run(self, job: Job) -> Mapping[str, Any]:
        """Raises Transient while a loader is at work that began before."""
        dataset = self._datasets.get(job.dataset)
        if dataset is None:
            raise Permanent(f"there is no dataset {job.dataset}")
        column, value = str(job.body["column"]), str(job.body["value"])
        async with self._manifest.connection() as connection:
            if await connection.fetchval(_RUNNING, job.dataset, job.job_id, self._stalled_s):
                raise Transient("chunks that began before the erasure are still being loaded")
            if await connection.fetchval(_IS_NEW, job.job_id, self._stalled_s):
                await wait_for_records(connection)
        rows = await self._erase_rows(job, dataset, column, value)
        rejects = await self._blank_rejects(dataset, column, value)
        async with self._manifest.connection() as connection:
            await raise_version(connection, dataset.name)
        return {"rows": rows, "rejects": rejects, "sha256": hash_of(dataset.name, column, value)}

    async def _erase_rows(self, job: Job, dataset: Dataset, column: str, value: str) -> int:
        """By key: every version of whoever had this value once, also those without it."""
        keys = await self._keys(job, dataset, column, value)
        names = {"keys": ", ".join(f"unhex('{key}')" for key in keys)}
        erased = 0
        for _ in range(_TURNS_MAX if keys else 0):
            there = await self._number(_OF_KEYS.format(table=dataset.history, **names))
            there += await self._number(_OF_KEYS.format(table=dataset.name, **names))
            if not there:
                break
            erased = max(erased, there)
            # The history first: from it an undo would bring the others back.
            await self._do(_DELETE.format(table=dataset.history, **names))
            faultpoint("erase.history_deleted")
            await self._do(_DELETE.format(table=dataset.name, **names))
            faultpoint("erase.current_deleted")
        return erased

    async def _keys(self, job: Job, dataset: Dataset, column: str, value: str) -> Sequence[str]:
        """Kept with the job before anything is deleted: afterwards nobody could find them again."""
        async with outages_are_transient():
            found = await self._clickhouse.query(
                _KEYS.format(history=dataset.history, current=dataset.name, column=column), parameters={"value": value}
            )
        keys = {str(row[0]) for row in found.result_rows}
        async with self._manifest.connection() as connection:
            kept = await connection.fetchval(_KEEP_KEYS, job.job_id, sorted(keys))
        faultpoint("erase.keys_kept")
        return [str(key) for key in kept]

    async def _blank_rejects(self, dataset: Dataset, column: str, value: str) -> int:
        """Rows stay counted, what they said goes. Notations of a phone differ, so its digits decide."""
        bound: dict[str, Any] = {"dataset": dataset.name, "value": f"(?i){_EDGE}{re.escape(value)}{_EDGE}"}
        condition = _SAYS
        if dataset.columns[column].normalise == "phone":
            condition = _SAYS_DIGITS
            bound["value"] = "".join(filter(str.isdigit, value))[-_DIGITS_KEPT:]
        async with outages_are_transient():
            found = await self._clickhouse.query(f"SELECT count() FROM quarantine WHERE {condition}", parameters=bound)  # noqa: S608 - a constant
            count = int(found.result_rows[0][0])
            if count:
                await self._clickhouse.command(
                    f"ALTER TABLE quarantine UPDATE raw = '', reason = 'erased' WHERE {condition}",
                    parameters=bound,
                    settings={"mutations_sync": 1},
                )
        faultpoint("erase.rejects_blanked")
        return count

    async def _do(self, statement: str) -> None:
        async with outages_are_transient():
            await self._clickhouse.command(statement)

    async def _number(self, query: str) -> int:
        async with outages_are_transient():
            return int((await self._clickhouse.query(query)).result_rows[0][0])


_KEYS = """
    SELECT DISTINCT hex(dedupe_key) FROM {history} WHERE `{column}` = {{value:String}}
    UNION DISTINCT SELECT DISTINCT hex(dedupe_key) FROM {current} WHERE `{column}` = {{value:String}}
"""
_OF_KEYS = "SELECT count() FROM {table} WHERE dedupe_key IN ({keys})"
_DELETE = "DELETE FROM {table} WHERE dedupe_key IN ({keys})"
# Between the delimiters of any format: a@x.org is not ada@x.org.
_EDGE = r"""(?:^|$|[\s,;|"'<>{}\[\]=:])"""
_SAYS = "dataset = {dataset:String} AND match(raw, {value:String})"
_SAYS_DIGITS = "dataset = {dataset:String} AND position(replaceRegexpAll(raw, '[^0-9]', ''), {value:String}) > 0"
_ADD_TOMBSTONE = """
    INSERT INTO ingest.erased (dataset, "column", sha256, erased_at) VALUES ($1, $2, $3, now())
    ON CONFLICT (dataset, "column", sha256) DO UPDATE SET erased_at = now()
"""
_RUNNING = """
    SELECT EXISTS (SELECT FROM ingest.chunks c JOIN ingest.uploads u USING (upload_id)
                    WHERE u.dataset = $1 AND c.running AND c.progress_at > now() - make_interval(secs => $3)
                      AND c.begun_at <= (SELECT created_at FROM ingest.jobs WHERE job_id = $2))
"""
# A loader that is frozen holds its lock for as long: it is not waited for longer than a chunk would be.
_IS_NEW = "SELECT created_at > now() - make_interval(secs => $2) FROM ingest.jobs WHERE job_id = $1"
_KEEP_KEYS = """
    UPDATE ingest.jobs
       SET body = jsonb_set(body, '{keys}', (SELECT coalesce(jsonb_agg(DISTINCT key), '[]') FROM (
               SELECT jsonb_array_elements_text(coalesce(body -> 'keys', '[]')) AS key
               UNION SELECT unnest($2::text[])) every))
     WHERE job_id = $1
 RETURNING body -> 'keys'
"""
