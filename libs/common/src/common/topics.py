"""Every topic, in one table. Brokers do not create topics by themselves here: `create_topics` makes these."""

from dataclasses import dataclass

from common import events

_DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Topic:
    name: str
    key: str
    partitions: int
    retention_ms: int
    value: type[events.Event] | None  # None: bytes that others made: records, notices, dead letters


INGEST_UPLOADS = Topic("ingest.uploads.v1", "upload_id", 6, 7 * _DAY_MS, events.UploadReceived)
INGEST_CHUNKS = Topic("ingest.chunks.v1", "upload_id:chunk_no", 12, 7 * _DAY_MS, events.ChunkPlanned)
INGEST_RECORDS = Topic("ingest.records.v1", "identity or none", 12, 7 * _DAY_MS, None)
INGEST_BUCKET = Topic("ingest.bucket.v1", "object key", 6, 7 * _DAY_MS, None)
# Kept for a day only: an erasure names whom to forget.
INGEST_COMMANDS = Topic("ingest.commands.v1", "upload_id", 3, _DAY_MS, events.IngestCommand)
INGEST_DEAD = Topic("ingest.dead.v1", "original key", 3, 30 * _DAY_MS, None)
AUDIT_REQUESTS = Topic("audit.requests.v1", "user_id", 6, 7 * _DAY_MS, events.RequestFinished)
AUDIT_DEAD = Topic("audit.dead.v1", "original key", 3, 30 * _DAY_MS, None)
CREDITS_EVENTS = Topic("credits.events.v1", "user_id", 6, 7 * _DAY_MS, events.CreditsEvent)

DEAD = (INGEST_DEAD, AUDIT_DEAD)
ALL = (
    INGEST_UPLOADS,
    INGEST_CHUNKS,
    INGEST_RECORDS,
    INGEST_BUCKET,
    INGEST_COMMANDS,
    INGEST_DEAD,
    AUDIT_REQUESTS,
    AUDIT_DEAD,
    CREDITS_EVENTS,
)
