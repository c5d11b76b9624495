"""One event of the topic becomes one entry of the log, or a reason why it never can."""

import math
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson
from asyncpg.pgproto.pgproto import UUID as QuickUUID  # noqa: N811 - a uuid.UUID, made in C: ten times faster
from pydantic import ValidationError

from audit.redaction import clean
from common.credit_operations import AMOUNT_MAX_MC
from common.errors import Permanent
from common.events import RequestFinished

# Every text of an entry, with its limit in characters.
_METHOD, _ENDPOINT, _IP = 16, 200, 64
_USERNAME, _DATASET, _ERROR_CODE = 128, 128, 64
_ACTION, _TARGET = 64, 256
_ROWS_MAX = 10**15
_STATUS_MAX = 999


class Entry(NamedTuple):
    """A row of request_log, its columns in COPY's order."""

    event_id: UUID
    created_at: datetime
    user_id: UUID | None
    key_id: UUID | None
    hold_id: UUID | None
    rows: int
    credits_used_mc: int
    duration_ms: float
    status: int
    method: str
    endpoint: str
    username: str | None
    ip: str | None
    dataset: str | None
    error_code: str | None
    action: str | None
    target: str | None


class Window(NamedTuple):
    """Which times the log accepts. What is older would be dropped at once; what is far ahead has a broken clock.

    Both become dead letters: a default partition would hide them from retention and slow every new day down.
    """

    oldest: datetime
    newest: datetime

    @classmethod
    def around(cls, now: datetime, *, retention_days: int, future_max_s: int) -> "Window":
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(midnight - timedelta(days=retention_days), now + timedelta(seconds=future_max_s))


def read_entry(value: bytes | None, window: Window) -> Entry:
    """Raises Permanent with the reason for the dead letter; the reason never repeats what was sent."""
    entry = _read_plain(value or b"") or _read_by_model(value or b"")
    _refuse_impossible(entry, window)
    return entry


def _read_plain(value: bytes) -> Entry | None:
    """An event as our own producers write it, in a quarter of the time the model takes; None: the model shall judge."""
    try:
        document = orjson.loads(value)
        get = document.get
        entry = Entry(
            event_id=QuickUUID(document["event_id"]),
            created_at=datetime.fromisoformat(document["occurred_at"]),
            user_id=_optional_id(get("user_id")),
            key_id=_optional_id(get("key_id")),
            hold_id=_optional_id(get("hold_id")),
            rows=get("rows", 0),
            credits_used_mc=get("credits_used_mc", 0),
            duration_ms=document["duration_ms"],
            status=document["status"],
            method=clean(document["method"], _METHOD),
            endpoint=clean(document["endpoint"], _ENDPOINT),
            username=_optional(get("username"), _USERNAME),
            ip=_optional(get("ip"), _IP),
            dataset=_optional(get("dataset"), _DATASET),
            error_code=_optional(get("error_code"), _ERROR_CODE),
            action=_optional(get("action"), _ACTION),
            target=_optional(get("target"), _TARGET),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    plain = (
        type(entry.rows) is type(entry.credits_used_mc) is type(entry.status) is type(get("schema_version", 1)) is int
    )
    return entry if plain and type(entry.duration_ms) is float and get("kind", "request") == "request" else None


def _read_by_model(value: bytes) -> Entry:
    try:
        event = RequestFinished.model_validate_json(value)
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "value"
        raise Permanent(f"not a RequestFinished: {where}: {fault['msg']}") from None
    if missing := {"event_id", "occurred_at"} - event.model_fields_set:
        # The model would make them up, anew at each reading: the entry could not be kept once.
        raise Permanent(f"not a RequestFinished: {min(missing)}: Field required")
    return Entry(
        event_id=event.event_id,
        created_at=event.occurred_at,
        user_id=event.user_id,
        key_id=event.key_id,
        hold_id=event.hold_id,
        rows=event.rows,
        credits_used_mc=event.credits_used_mc,
        duration_ms=event.duration_ms,
        status=event.status,
        method=clean(event.method, _METHOD),
        endpoint=clean(event.endpoint, _ENDPOINT),
        username=_optional(event.username, _USERNAME),
        ip=_optional(event.ip, _IP),
        dataset=_optional(event.dataset, _DATASET),
        error_code=_optional(event.error_code, _ERROR_CODE),
        action=_optional(event.action, _ACTION),
        target=_optional(event.target, _TARGET),
    )


def _optional(text: str | None, chars_max: int) -> str | None:
    return None if text is None else clean(text, chars_max)


def _optional_id(text: str | None) -> UUID | None:
    return None if text is None else QuickUUID(text)


def _refuse_impossible(entry: Entry, window: Window) -> None:
    """What is well formed, and the table or the sums over it cannot take."""
    if entry.created_at.tzinfo is None:
        raise Permanent("occurred_at has no time zone")
    if entry.created_at < window.oldest:
        raise Permanent("occurred_at is older than the log keeps")
    if entry.created_at > window.newest:
        raise Permanent("occurred_at is in the future")
    if not 0 <= entry.duration_ms < math.inf:
        raise Permanent("duration_ms is not a duration")
    if not (0 <= entry.rows <= _ROWS_MAX and 0 <= entry.credits_used_mc <= AMOUNT_MAX_MC):
        raise Permanent("rows or credits_used_mc is out of range")
    if not 0 <= entry.status <= _STATUS_MAX:
        raise Permanent("status is not an HTTP status")
