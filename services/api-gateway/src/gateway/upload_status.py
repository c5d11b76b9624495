"""Where an upload is: from the view of the worker, and until the worker has it, from its announcement in the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any
from uuid import UUID

import asyncpg
import obstore
from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore

from common.bucket import announcement_key
from common.errors import NotFound, Unavailable
from common.events import UploadReceived
from common.postgres import Pool
from gateway.published_views import published
from gateway.roles import ADMIN_READERS, Caller

_ONE = "SELECT *, now() AS now FROM ingest.upload_status WHERE upload_id = $1"

_LIST = """
    SELECT *, now() AS now FROM ingest.upload_status
     WHERE ($1::uuid IS NULL OR sender = $1) AND ($2::uuid IS NULL OR upload_id < $2)
     ORDER BY upload_id DESC LIMIT $3
"""

# The same content is loaded once; what failed or was undone may come again.
_SAME_CONTENT = """
    SELECT upload_id FROM ingest.upload_status
     WHERE dataset = $1 AND sha256 = $2 AND upload_id <> $3 AND duplicate_of IS NULL
       AND state NOT IN ('failed', 'undone')
     ORDER BY upload_id LIMIT 1
"""


@dataclass(frozen=True)
class Rejects:
    upload_id: UUID
    generation: int
    dataset: str


async def status_of(upload_id: UUID, caller: Caller, postgres: Pool, bucket: ObjectStore) -> dict[str, Any]:
    """The status document. Raises NotFound for what is not there and for what is another user's alike."""
    async with published("The state of uploads"):
        row = await postgres.fetchrow(_ONE, upload_id)
    if row is not None:
        _require_own(row["sender"], caller)
        return _document(row)
    event = await _announced(upload_id, bucket)
    _require_own(event.sender, caller)
    return _received(event)


async def rejects_of(upload_id: UUID, caller: Caller, postgres: Pool, bucket: ObjectStore) -> Rejects:
    """Which rejected rows are this upload's: of its latest load; of the first upload, if it is a duplicate."""
    async with published("The state of uploads"):
        row = await postgres.fetchrow(_ONE, upload_id)
    if row is None:
        event = await _announced(upload_id, bucket)
        _require_own(event.sender, caller)
        return Rejects(upload_id, 1, event.dataset)
    _require_own(row["sender"], caller)
    return Rejects(row["duplicate_of"] or upload_id, row["generation"], row["dataset"])


async def list_uploads(caller: Caller, postgres: Pool, *, before: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Newest first; one's own, for the admin side everybody's. What the worker has not seen yet is not listed."""
    sender = None if caller.role in ADMIN_READERS else caller.user_id
    async with published("The state of uploads"):
        rows = await postgres.fetch(_LIST, sender, before, limit)
    return [_document(row) for row in rows]


@dataclass(frozen=True)
class UploadFilter:
    """What is None does not filter."""

    dataset: str | None = None
    state: str | None = None
    sender: UUID | None = None


_EVERY = """
    SELECT *, now() AS now FROM ingest.upload_status
     WHERE ($1::text IS NULL OR dataset = $1) AND ($2::text IS NULL OR state = $2)
       AND ($3::uuid IS NULL OR sender = $3) AND ($4::uuid IS NULL OR upload_id < $4)
     ORDER BY upload_id DESC LIMIT $5
"""


async def every_upload(
    postgres: Pool, wanted: UploadFilter, *, before: UUID | None, limit: int
) -> tuple[list[dict[str, Any]], UUID | None]:
    """Everybody's, newest first, and where the next page begins. What the worker has not seen yet is not listed."""
    async with published("The state of uploads"):
        rows = await postgres.fetch(_EVERY, wanted.dataset, wanted.state, wanted.sender, before, limit + 1)
    shown = [{"user_id": row["sender"], **_document(row)} for row in rows[:limit]]
    return shown, shown[-1]["upload_id"] if len(rows) > limit else None


async def same_content(event: UploadReceived, postgres: Pool) -> UUID | None:
    """The upload that already holds these bytes. The worker decides; this only says so at once when it is known."""
    try:
        async with published("The state of uploads"):
            found: UUID | None = await postgres.fetchval(_SAME_CONTENT, event.dataset, event.sha256, event.upload_id)
    except Unavailable:
        return None
    return found


async def _announced(upload_id: UUID, bucket: ObjectStore) -> UploadReceived:
    try:
        found = await obstore.get_async(bucket, announcement_key(upload_id))
        return UploadReceived.model_validate_json(bytes(await found.bytes_async()))
    except (NotFoundError, FileNotFoundError):
        raise NotFound from None
    except OSError as exc:
        raise Unavailable("The bucket is not available, try again shortly") from exc


def _require_own(sender: UUID | None, caller: Caller) -> None:
    if sender != caller.user_id and caller.role not in ADMIN_READERS:
        raise NotFound


def _document(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "upload_id": row["upload_id"],
        "dataset": row["dataset"],
        "filename": row["filename"],
        "state": row["state"],
        "sha256": row["sha256"],
        "size": row["size"],
        "bytes_done": row["bytes_done"],
        "rows": {"total": row["rows_total"], "accepted": row["rows_accepted"], "rejected": row["rows_rejected"]},
        "chunks": {"done": row["chunks_done"], "total": row["chunks_total"]},
        **_pace(row),
        "error": row["error"],
        "duplicate_of": row["duplicate_of"],
        "corrected_by": row["corrected_by"],
        "created_at": row["created_at"],
        "finished_at": row["finished_at"],
    }


def _pace(row: asyncpg.Record) -> dict[str, float | None]:
    """Rows per second since loading began, and at the same pace of bytes, the seconds that are left."""
    pace: dict[str, float | None] = {"rows_per_second": None, "eta_seconds": None}
    if row["started_at"] is None:
        return pace
    elapsed = ((row["finished_at"] or row["now"]) - row["started_at"]).total_seconds()
    if elapsed > 0:
        pace["rows_per_second"] = round((row["rows_accepted"] + row["rows_rejected"]) / elapsed, 1)
    if row["finished_at"] is not None:
        pace["eta_seconds"] = 0
    elif row["bytes_done"]:
        pace["eta_seconds"] = round(elapsed / row["bytes_done"] * (row["size"] - row["bytes_done"]), 1)
    return pace


def _received(event: UploadReceived) -> dict[str, Any]:
    return {
        "upload_id": event.upload_id,
        "dataset": event.dataset,
        "filename": event.filename,
        "state": "received",
        "sha256": event.sha256,
        "size": event.size,
        "bytes_done": 0,
        "rows": {"total": 0, "accepted": 0, "rejected": 0},
        "chunks": {"done": 0, "total": 0},
        "rows_per_second": None,
        "eta_seconds": None,
        "error": None,
        "duplicate_of": None,
        "corrected_by": None,
        "created_at": event.received_at.astimezone(UTC),
        "finished_at": None,
    }
