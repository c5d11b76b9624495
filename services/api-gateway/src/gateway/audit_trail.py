"""Exactly one record per answered request, written before its last byte is passed on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from uuid import UUID

import orjson
from fastapi import Request
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.clock import Clock
from common.metrics import counter, histogram
from common.redaction import clean, cleaned
from common.tracing import trace_id
from gateway.roles import Caller
from gateway.spool import Captured, Released

CLIENT_LEFT = 499
_FIELD_MAX = 256
_requests = counter("bigdata_requests_total", "Requests answered", "route", "method", "status")
_seconds = histogram("bigdata_request_seconds", "From request line to last byte", "route")


@dataclass(slots=True)
class Trail:
    """What is known about one request so far; at `request.state.trail`. Nothing secret may enter it."""

    caller: Caller | None = None
    rows: int = 0
    dataset: str | None = None
    error_code: str | None = None
    action: str | None = None
    target: str | None = None
    details: dict[str, Any] | None = None  # of an admin's action: what changed, old and new
    # Set before reserve is called: a hold that nothing settled by the end of the request is released.
    hold: UUID | None = None
    settlement: Captured | Released | None = None
    client_left: bool = False
    # Events that go on until their reader leaves: that is no failure, and what counts is how long they took to begin.
    followed: bool = False
    began: float = 0.0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # added to the answer, whatever it is
    leave: Callable[[], None] | None = None  # called once at the end
    status: int = 0
    written: bool = False


@dataclass(frozen=True)
class Place:
    """What the log calls a request that was answered before the framework's routes: set as the scope's `route`."""

    path: str


def trail_of(request: Request) -> Trail:
    trail: Trail = request.state.trail
    return trail


class Spooling(Protocol):
    def append(self, event: bytes, settlement: Captured | Released | None, user_id: UUID | None) -> bool: ...


class AuditTrail:
    """Plain ASGI middleware, outermost, so that it sees what uvicorn sees, 500s and cut streams included."""

    def __init__(self, app: ASGIApp, spool: Spooling, clock: Clock) -> None:
        self._app = app
        self._spool = spool
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trail = Trail()
        scope.setdefault("state", {})["trail"] = trail
        started = time.perf_counter()

        async def watching() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not trail.written:
                trail.client_left = True
            return message

        async def passing(message: Message) -> None:
            if message["type"] == "http.response.start":
                trail.status, trail.began = message["status"], time.perf_counter()
                message["headers"] = [*message.get("headers", ()), *trail.headers]
            elif not message.get("more_body", False):
                self._write(trail, scope, started, _ended(trail, send, trail.status))
            await send(message)

        try:
            await self._app(scope, watching, passing)
        except Exception:
            # An answered fault was logged where it was answered. An unanswered one must reach the server: it cuts the
            # connection, which is how the client sees that its answer is not whole.
            if not trail.written:
                raise
        finally:
            if not trail.written:
                self._write(trail, scope, started, _ended(trail, send, 500))

    def answered(self, scope: Scope, status: int) -> None:
        """A request that the server refused by itself."""
        self._write(Trail(), scope, time.perf_counter(), status)

    def _write(self, trail: Trail, scope: Scope, started: float, status: int) -> None:
        trail.written = True
        trail.status = status
        if trail.leave is not None:
            trail.leave()
        seconds = (trail.began if trail.followed and trail.began else time.perf_counter()) - started
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        requests, durations = _metrics(route, method, status)
        requests.inc()
        durations.observe(seconds)
        settlement = _settlement(trail, status)
        event = _event(trail, scope, settlement, occurred_at=self._clock.now(), ms=seconds * 1000)
        self._spool.append(event, settlement, trail.caller.user_id if trail.caller else None)


@lru_cache(maxsize=4096)
def _metrics(route: str, method: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once: finding them by their labels costs more than counting."""
    return _requests.labels(route, method, str(status)), _seconds.labels(route)


def _ended(trail: Trail, send: Send, otherwise: int) -> int:
    if not (trail.client_left or _has_left(send)):
        return otherwise
    return trail.status if trail.followed and trail.began else CLIENT_LEFT


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def _has_left(send: Send) -> bool:
    """Uvicorn's send belongs to its request cycle, which knows at once; asking receive() would cost a loop turn."""
    return bool(getattr(getattr(send, "__self__", None), "disconnected", False))


def _route(scope: Scope) -> str:
    """The route's template: a path could carry an id or a secret, and would be a label of its own each time."""
    return getattr(scope.get("route"), "path", None) or "unmatched"


def _settlement(trail: Trail, status: int) -> Captured | Released | None:
    """The last word on money: what we did not answer with success costs nothing, and no hold is left open."""
    settlement = trail.settlement
    if isinstance(settlement, Captured) and status >= 300 and status != CLIENT_LEFT:  # noqa: PLR2004 - not a success
        return Released(settlement.hold_id, settlement.user_id, f"answered {status}")
    if settlement is None and trail.hold is not None and trail.caller is not None:
        return Released(trail.hold, trail.caller.user_id, f"ended without a settlement, status {status}")
    return settlement


def _event(
    trail: Trail, scope: Scope, settlement: Captured | Released | None, *, occurred_at: datetime, ms: float
) -> bytes:
    """A RequestFinished event as JSON; built by hand because every request pays for it."""
    caller, state, client = trail.caller, scope["state"], scope.get("client")
    return orjson.dumps(
        {
            "event_id": state["request_id"],
            "schema_version": 1,
            "occurred_at": occurred_at,
            "user_id": caller.user_id if caller else None,
            "username": caller.username if caller else None,
            "key_id": caller.key_id if caller else None,
            "endpoint": _route(scope),
            "method": scope["method"][:20],
            "status": trail.status,
            "duration_ms": round(ms, 3),
            "rows": trail.rows,
            "credits_used_mc": settlement.amount_mc if isinstance(settlement, Captured) else 0,
            "ip": _clean(client[0]) if client else None,
            "dataset": _clean(trail.dataset),
            "hold_id": settlement.hold_id if settlement else None,
            "error_code": trail.error_code or state.get("error_code"),
            "action": trail.action,
            "target": _clean(trail.target),
            "details": cleaned(trail.details),
            "trace_id": trace_id(),
            "kind": "request",
        }
    )


# What clients write ends here only as a target or a detail; nothing of a key may pass even if somebody puts it there.
@lru_cache(maxsize=4096)
def _clean(text: str | None) -> str | None:
    return clean(text, _FIELD_MAX) if text else None


def changed(old: object, new: object) -> dict[str, object]:
    """How a detail of an admin's action is written."""
    return {"old": old, "new": new}
