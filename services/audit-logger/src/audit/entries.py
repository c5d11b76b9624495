"""One event of the topic becomes one entry of the log, or a reason why it never can."""

import math
import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

import orjson
from asyncpg.pgproto.pgproto import UUID as QuickUUID  # noqa: N811 - a uuid.UUID, made in C: ten times faster

from common.credit_operations import AMOUNT_MAX_MC
from common.errors import Permanent
from common.events import RequestFinished, event_of
from common.redaction import clean, clean_details

# Characters kept.
_METHOD_MAX, _ENDPOINT_MAX, _USERNAME_MAX, _IP_MAX = 16, 200, 128, 64
_DATASET_MAX, _ERROR_CODE_MAX, _ACTION_MAX, _TARGET_MAX = 128, 64, 64, 256
# What is longer is read the slow way: its texts must not fill the cache of the quick one.
_PLAIN_BYTES_MAX = 4096
_ROWS_MAX = 10**15
_STATUS_MAX = 999
_TRACE_ID = re.compile("[0-9a-f]{32}")


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
    details: str | None
    trace_id: str | None
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
    """An event as our own producers write it, in a third of the time the model takes; None: the model shall judge."""
    if len(value) > _PLAIN_BYTES_MAX:
        return None
    try:
        document = orjson.loads(value)
        get = document.get
        entry = Entry(
            QuickUUID(document["event_id"]),
            datetime.fromisoformat(document["occurred_at"]),
            None if (user := get("user_id")) is None else QuickUUID(user),
            None if (key := get("key_id")) is None else QuickUUID(key),
            None if (hold := get("hold_id")) is None else QuickUUID(hold),
            get("rows", 0),
            get("credits_used_mc", 0),
            document["duration_ms"],
            document["status"],
            None if (details := get("details")) is None else clean_details(dict(details)),
            None if (trace := get("trace_id")) is None else _trace_id(trace),
            _clean_cached(document["method"], _METHOD_MAX),
            _clean_cached(document["endpoint"], _ENDPOINT_MAX),
            None if (text := get("username")) is None else _clean_cached(text, _USERNAME_MAX),
            None if (text := get("ip")) is None else _clean_cached(text, _IP_MAX),
            None if (text := get("dataset")) is None else _clean_cached(text, _DATASET_MAX),
            None if (text := get("error_code")) is None else _clean_cached(text, _ERROR_CODE_MAX),
            None if (text := get("action")) is None else _clean_cached(text, _ACTION_MAX),
            None if (text := get("target")) is None else _clean_cached(text, _TARGET_MAX),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    if get("kind", "request") != "request":
        return None
    whole = (
        type(entry.rows) is type(entry.credits_used_mc) is type(entry.status) is type(get("schema_version", 1)) is int
    )
    return entry if whole and type(entry.duration_ms) is float else None


# Each text by itself: a user's name and a route come again and again, the two and an address together hardly ever.
_clean_cached = lru_cache(maxsize=16_384)(clean)


def _clean_or_none(text: str | None, chars_max: int) -> str | None:
    return None if text is None else clean(text, chars_max)


def _read_by_model(value: bytes) -> Entry:
    event = event_of(RequestFinished, value)
    if missing := {"event_id", "occurred_at"} - event.model_fields_set:
        # The model would make them up, anew at each reading: the entry could not be kept once.
        raise Permanent(f"not a RequestFinished: {min(missing)}: Field required")
    return Entry(
        event.event_id,
        event.occurred_at,
        event.user_id,
        event.key_id,
        event.hold_id,
        event.rows,
        event.credits_used_mc,
        event.duration_ms,
        event.status,
        None if event.details is None else clean_details(event.details),
        event.trace_id,
        clean(event.method, _METHOD_MAX),
        clean(event.endpoint, _ENDPOINT_MAX),
        _clean_or_none(event.username, _USERNAME_MAX),
        _clean_or_none(event.ip, _IP_MAX),
        _clean_or_none(event.dataset, _DATASET_MAX),
        _clean_or_none(event.error_code, _ERROR_CODE_MAX),
        _clean_or_none(event.action, _ACTION_MAX),
        _clean_or_none(event.target, _TARGET_MAX),
    )


def _trace_id(given: str) -> str:
    if not _TRACE_ID.fullmatch(given):
        raise ValueError
    return given


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
