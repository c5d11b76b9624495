"""One event of the topic becomes one entry of the log, or a reason why it never can."""

import math
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from pydantic import ValidationError

from audit.redaction import TEXT_CHARS_MAX, clean
from common.credit_operations import AMOUNT_MAX_MC
from common.errors import Permanent
from common.events import RequestFinished

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
    try:
        event = RequestFinished.model_validate_json(value or b"")
    except ValidationError as exc:
        fault = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "value"
        raise Permanent(f"not a RequestFinished: {where}: {fault['msg']}") from None
    _refuse_impossible(event, window)
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
        method=clean(event.method, TEXT_CHARS_MAX["method"]),
        endpoint=clean(event.endpoint, TEXT_CHARS_MAX["endpoint"]),
        username=_optional(event.username, "username"),
        ip=_optional(event.ip, "ip"),
        dataset=_optional(event.dataset, "dataset"),
        error_code=_optional(event.error_code, "error_code"),
        action=_optional(event.action, "action"),
        target=_optional(event.target, "target"),
    )


def _optional(text: str | None, field: str) -> str | None:
    return None if text is None else clean(text, TEXT_CHARS_MAX[field])


def _refuse_impossible(event: RequestFinished, window: Window) -> None:
    """What the model lets through and the table or the sums over it do not."""
    if event.occurred_at.tzinfo is None:
        raise Permanent("occurred_at has no time zone")
    if event.occurred_at < window.oldest:
        raise Permanent("occurred_at is older than the log keeps")
    if event.occurred_at > window.newest:
        raise Permanent("occurred_at is in the future")
    if not (math.isfinite(event.duration_ms) and event.duration_ms >= 0):
        raise Permanent("duration_ms is not a duration")
    if not (0 <= event.rows <= _ROWS_MAX and event.credits_used_mc <= AMOUNT_MAX_MC):
        raise Permanent("rows or credits_used_mc is out of range")
    if not 0 <= event.status <= _STATUS_MAX:
        raise Permanent("status is not an HTTP status")
