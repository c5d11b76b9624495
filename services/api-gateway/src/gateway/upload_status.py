"""Where an upload is: from the view of the worker, and until the worker has it, from its announcement in the bucket."""

from __future__ import annotations

from datetime import UTC, datetime
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

_ONE = "SELECT * FROM ingest.upload_status WHERE upload_id = $1"

_LIST = """
    SELECT * FROM ingest.upload_status
     WHERE ($1::uuid IS NULL OR sender = $1) AND ($2::uuid IS NULL OR upload_id < $2)
     ORDER BY upload_id DESC LIMIT $3
"""

# The same content is loaded once; what failed or was undone may come again.
_SAME_CONTENT = """
    SELECT upload_id FROM ingest.upload_status
     WHERE dataset = $1 AND sha256 = $2 AND upload_id <> $3 AND state NOT IN ('failed', 'undone')
     ORDER BY upload_id LIMIT 1
"""


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


async def list_uploads(caller: Caller, postgres: Pool, *, before: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Newest first; one's own, for the admin side everybody's. What the worker has not seen yet is not listed."""
    sender = None if caller.role in ADMIN_READERS else caller.user_id
    async with published("The state of uploads"):
        rows = await postgres.fetch(_LIST, sender, before, limit)
    return [_document(row) for row in rows]


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
    finished: datetime | None = row["finished_at"]
    return {
        "upload_id": row["upload_id"],
        "dataset": row["dataset"],
        "filename": row["filename"],
        "state": row["state"],
        "sha256": row["sha256"],
        "size": row["size"],
        "bytes_done": row["bytes_done"],
        "rows": {
            "total": row["rows_total"],
            "accepted": row["rows_accepted"],
            "rejected": row["rows_rejected"],
        },
        "chunks": {"done": row["chunks_done"], "total": row["chunks_total"]},
        "rows_per_second": row["rows_per_second"],
        "eta_seconds": row["eta_seconds"],
        "error": row["error"],
        "created_at": row["created_at"],
        "finished_at": finished,
    }


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
        "created_at": event.received_at.astimezone(UTC),
        "finished_at": None,
    }
