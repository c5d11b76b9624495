"""What travels over Kafka: one frozen model per event. Consumers ignore unknown fields, so producers may add some."""

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import Permanent
from common.ids import new_id


def _now() -> datetime:
    return datetime.now(UTC)


class Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: UUID = Field(default_factory=new_id)
    schema_version: int = 1
    occurred_at: datetime = Field(default_factory=_now)

    def encoded(self) -> bytes:
        return self.model_dump_json().encode()


class UploadReceived(Event):
    """An object is complete in the bucket and wants loading. Announced again until its manifest is finished."""

    upload_id: UUID
    dataset: str
    object_key: str
    filename: str
    size: int = Field(ge=0, description="bytes as stored, compressed or not")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    sender: UUID | None = Field(None, description="user_id; none for a bucket drop")
    declared_format: str | None = None
    record: str | None = Field(None, description="the XML element that is a record; found where it is absent")
    received_at: datetime = Field(description="arrival of the object; the order time of rows without record_ts")
    replaces: UUID | None = Field(None, description="the upload whose rejected rows this one corrects")


class ChunkPlanned(Event):
    """A chunk of a planned upload is ready to load. What it holds is in the manifest, the only truth about it."""

    upload_id: UUID
    generation: int = Field(ge=1)
    chunk_no: int = Field(ge=0)


class IngestCommand(Event):
    """Something to do to uploads or datasets besides loading. event_id is the job's id: a repeat is the same job."""

    requested_by: UUID | None = Field(None, description="user_id; none when the system asks itself")


class UndoRequested(IngestCommand):
    """Leave the dataset as if this upload had never been loaded."""

    kind: Literal["undo"] = "undo"
    upload_id: UUID


class ReplayRequested(IngestCommand):
    """Read an upload's rejected rows again, by the declaration as it is now; an undone upload is loaded again."""

    kind: Literal["replay"] = "replay"
    upload_id: UUID
    dry_run: bool = False


class EraseRequested(IngestCommand):
    """Remove whoever has this value from a dataset. The only event that carries personal data: it is kept for a day."""

    kind: Literal["erase"] = "erase"
    dataset: str
    column: str
    value: str = Field(description="as the column stores it")


class RequestFinished(Event):
    """A request was answered. event_id is its request id: that is what makes the log exactly-once."""

    user_id: UUID | None = None
    username: str | None = None
    key_id: UUID | None = None
    endpoint: str = Field(description="route template, not the path: no ids, no secrets")
    method: str
    status: int = Field(description="499 when the client left first")
    duration_ms: float
    rows: int = 0
    credits_used_mc: int = Field(0, ge=0, description="millicredits")
    ip: str | None = None
    dataset: str | None = None
    hold_id: UUID | None = None
    error_code: str | None = None
    action: str | None = Field(None, description="admin actions: what was done")
    target: str | None = Field(None, description="admin actions: to whom or what")
    details: dict[str, Any] | None = Field(None, description="admin actions: what changed, old and new")
    trace_id: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="where the request can be followed")
    kind: Literal["request"] = "request"


class CreditsEvent(Event):
    """Something happened to a balance. A user's events arrive in order; a repeat has the same event_id."""

    user_id: UUID


class CreditsPosted(CreditsEvent):
    """An entry was posted; amount_mc has the entry's sign: a capture is negative."""

    entry_id: UUID
    amount_mc: int = Field(description="millicredits")
    posted_mc: int = Field(ge=0, description="after the entry")
    available_mc: int = Field(ge=0, description="after the entry, without what is held")


class CreditsGranted(CreditsPosted):
    """A grant, or an adjustment in either direction."""

    kind: Literal["granted"] = "granted"


class CreditsCaptured(CreditsPosted):
    kind: Literal["captured"] = "captured"
    hold_id: UUID


class CreditsRefunded(CreditsPosted):
    kind: Literal["refunded"] = "refunded"


class LowBalance(CreditsEvent):
    """The balance fell below the user's threshold; once per crossing."""

    kind: Literal["low_balance"] = "low_balance"
    posted_mc: int
    available_mc: int
    threshold_mc: int


class CreditsExhausted(CreditsEvent):
    """The balance reached zero."""

    kind: Literal["exhausted"] = "exhausted"


E = TypeVar("E", bound=Event)


def event_of(kind: type[E], value: bytes | None) -> E:
    """Raises Permanent, with the first fault and its place but not its value, for what is no such event."""
    try:
        return kind.model_validate_json(value or b"")
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "value"
        article = "an" if kind.__name__.startswith(tuple("AEIOU")) else "a"
        raise Permanent(f"not {article} {kind.__name__}: {where}: {fault['msg']}") from None
