"""What is done to uploads and datasets besides loading: commands become jobs, which are worked off one at a time per
dataset. A job is taken up again from its beginning by whoever finds it unfinished, so every kind can be repeated.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from aiokafka import ConsumerRecord

from common.errors import Permanent, Transient
from common.events import EraseRequested, IngestCommand, ReplayRequested, UndoRequested, event_of
from common.logs import get_logger
from common.metrics import counter
from common.postgres import OUTAGES, Connection
from common.redaction import clean
from ingest.manifest import Manifest
from ingest.undo_begin import Refused

_KINDS: Mapping[str, type[IngestCommand]] = {
    "undo": UndoRequested,
    "replay": ReplayRequested,
    "erase": EraseRequested,
}

_ERROR_CHARS_MAX = 1000
_log = get_logger(__name__)
_jobs = counter("bigdata_ingest_jobs_total", "Undo, replay and erase, by how they ended", "kind", "outcome")


@dataclass(frozen=True)
class Job:
    job_id: UUID
    kind: str
    dataset: str
    upload_id: UUID | None
    body: Mapping[str, Any]


# In the command's transaction: what must be true from now on. Raises Refused.
Accept = Callable[[Connection, Job], Awaitable[None]]
# Works off a job; returns its result. Raises Transient: later again; Permanent: the job has failed.
Run = Callable[[Job], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Kind:
    accept: Accept
    run: Run


class Jobs:
    def __init__(self, manifest: Manifest, kinds: Mapping[str, Kind]) -> None:
        self._manifest, self._kinds = manifest, kinds

    async def take(self, record: ConsumerRecord) -> None:
        """A command becomes a job; one that is refused becomes a failed job, so that whoever asked learns why."""
        command = _command_of(record.value)
        async with self._manifest.transaction() as connection:
            await take_command(connection, command, self._kinds)

    async def work_off(self) -> None:
        """Every waiting job whose dataset nobody else is at work on. Raises Transient at the end if one must wait."""
        async with self._manifest.connection() as connection:
            datasets = [row["dataset"] for row in await connection.fetch(_WAITING_DATASETS)]
        waiting: list[Transient] = []
        for dataset in datasets:
            try:
                async with self.alone_on(dataset) as alone:
                    while alone and (job := await self._next(dataset)):
                        await self._work(job)
            except Transient as exc:
                waiting.append(exc)
        if waiting:
            raise waiting[0]

    async def _work(self, job: Job) -> None:
        log = _log.bind(job_id=str(job.job_id), kind=job.kind, dataset=job.dataset, upload_id=str(job.upload_id))
        try:
            result = await self._kinds[job.kind].run(job)
        except Permanent as exc:
            await self._ended(job, "failed", None, clean(str(exc), _ERROR_CHARS_MAX))
            log.warning("job failed", reason=str(exc))
        else:
            await self._ended(job, "done", result, None)
            log.info("job done", result=result)

    async def _next(self, dataset: str) -> Job | None:
        async with self._manifest.connection() as connection:
            found = await connection.fetchrow(_NEXT, dataset)
            return Job(**found) if found else None

    async def _ended(self, job: Job, state: str, result: Mapping[str, Any] | None, error: str | None) -> None:
        async with self._manifest.connection() as connection:
            await connection.execute(_END, job.job_id, state, result, error)
        _jobs.labels(job.kind, state).inc()

    @asynccontextmanager
    async def alone_on(self, dataset: str) -> AsyncIterator[bool]:
        """An advisory lock of the session: gone with the process, so that another one goes on."""
        async with self._manifest.connection() as connection:
            alone = bool(await connection.fetchval(_TRY_LOCK, dataset))
            try:
                yield alone
            finally:
                if alone:
                    # Where the connection is gone, so is the lock.
                    with suppress(*OUTAGES, asyncpg.PostgresError):
                        await asyncio.shield(connection.execute(_UNLOCK, dataset))


_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('jobs:' || $1, 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('jobs:' || $1, 0))"
_WAITING_DATASETS = "SELECT DISTINCT dataset FROM ingest.jobs WHERE state = 'waiting'"
_NEXT = """
    SELECT job_id, kind, dataset, upload_id, body FROM ingest.jobs
     WHERE dataset = $1 AND state = 'waiting' ORDER BY created_at, job_id LIMIT 1
"""
_END = """
    UPDATE ingest.jobs SET state = $2, result = $3, error = $4, finished_at = now(), body = body - 'value' - 'keys'
     WHERE job_id = $1 AND state = 'waiting'
"""
_ADD = """
    INSERT INTO ingest.jobs (job_id, kind, dataset, upload_id, body, requested_by)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true
"""
_REFUSE = """
    UPDATE ingest.jobs SET state = 'failed', error = $2, finished_at = now(), body = body - 'value' WHERE job_id = $1
"""
_DATASET_OF = "SELECT dataset FROM ingest.uploads WHERE upload_id = $1"


async def take_command(connection: Connection, command: IngestCommand, kinds: Mapping[str, Kind]) -> None:
    """Raises Permanent for a command about an upload that nobody knows."""
    job = await _job_of(connection, command)
    added = await connection.fetchval(
        _ADD, job.job_id, job.kind, job.dataset, job.upload_id, dict(job.body), command.requested_by
    )
    if not added:
        return
    try:
        async with connection.transaction():
            await kinds[job.kind].accept(connection, job)
    except Refused as exc:
        await connection.execute(_REFUSE, job.job_id, str(exc))
        _jobs.labels(job.kind, "refused").inc()
        _log.warning("command refused", job_id=str(job.job_id), kind=job.kind, reason=str(exc))


async def _job_of(connection: Connection, command: IngestCommand) -> Job:
    if isinstance(command, EraseRequested):
        sought = {"column": command.column, "value": command.value}
        return Job(command.event_id, command.kind, command.dataset, None, sought)
    if isinstance(command, UndoRequested | ReplayRequested):
        dataset = await connection.fetchval(_DATASET_OF, command.upload_id)
        if dataset is None:
            raise Permanent(f"there is no upload {command.upload_id}")
        body = {"dry_run": command.dry_run} if isinstance(command, ReplayRequested) else {}
        return Job(command.event_id, command.kind, dataset, command.upload_id, body)
    raise Permanent(f"nobody does what a {type(command).__name__} asks")


def _command_of(value: bytes | None) -> IngestCommand:
    try:
        kind = orjson.loads(value or b"").get("kind")
    except (orjson.JSONDecodeError, AttributeError):
        raise Permanent("not a command: not a JSON object") from None
    if kind not in _KINDS:
        raise Permanent(f"not a command: kind is none of {', '.join(_KINDS)}")
    return event_of(_KINDS[kind], value)
