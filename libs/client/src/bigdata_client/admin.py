"""The admin side: users, grants, the log of requests, figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from bigdata_client.account import DayOfUsage, Entry, Key, NewKey
from bigdata_client.call import Call, Page, document, documents, json_of, new_key, page
from bigdata_client.uploads import Upload


@dataclass(frozen=True)
class User:
    id: str
    username: str
    role: str
    status: str
    plan: str = ""
    credits: float = 0.0
    created_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class UserInFull(User):
    held: float = 0.0
    today_requests: int = 0
    total_requests: int = 0
    credits_used: float = 0.0
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class CreatedUser:
    """`api_key` is shown this once."""

    user: User
    api_key: str


@dataclass(frozen=True)
class Granted:
    user_id: str
    credits: float
    balance: float


@dataclass(frozen=True)
class LedgerEntry(Entry):
    """`actor` is who granted or set it; None for what a query cost."""

    user_id: str = ""
    username: str | None = None
    actor: str | None = None


@dataclass(frozen=True)
class LogEntry:
    id: str
    endpoint: str
    method: str
    status: int
    duration_ms: float
    rows: int
    credits_used: float
    created_at: datetime
    request_id: str = ""
    user_id: str | None = None
    username: str | None = None
    ip: str | None = None
    dataset: str | None = None
    error_code: str | None = None
    action: str | None = None
    target: str | None = None
    details: dict[str, Any] | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class DayOfStats:
    date: date
    requests: int
    credits_used: float
    new_users: int = 0


@dataclass(frozen=True)
class Stats:
    """Figures of today and of the last 30 days, in UTC."""

    total_users: int
    total_requests: int
    today_requests: int
    credits_used: float
    credits_used_all_time: float
    new_users_today: int = 0
    low_credit_users: int = 0
    error_rate: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    records_total: int | None = None
    ingested_today: int = 0
    daily_usage: tuple[DayOfStats, ...] = ()


def create_user(username: str, role: str, credits: float, plan: str) -> Call[CreatedUser]:  # noqa: A002 - the field's name
    body = {"username": username, "role": role, "credits": credits, "plan": plan}
    # Not repeatable: the second would be told that the name is taken, and nobody would have seen the key.
    return Call("POST", "/v1/admin/create-user", document(CreatedUser), json=body, repeatable=False)


def add_credits(user_id: str, credits: float, reason: str, key: str | None) -> Call[Granted]:  # noqa: A002
    body = {"user_id": user_id, "credits": credits, "reason": reason}
    headers = {"Idempotency-Key": key or new_key()}
    return Call("POST", "/v1/admin/add-credits", document(Granted), json=body, headers=headers)


def set_credits(user_id: str, credits: float, reason: str, key: str | None) -> Call[Granted]:  # noqa: A002
    path, headers = f"/v1/admin/user/{user_id}/update-credits", {"Idempotency-Key": key or new_key()}
    return Call("POST", path, document(Granted), json={"credits": credits, "reason": reason}, headers=headers)


def users(limit: int, cursor: str | None, wanted: Mapping[str, Any]) -> Call[Page[User]]:
    return Call("GET", "/v1/admin/users", page(User), params={**wanted, "limit": limit, "cursor": cursor})


def user(user_id: str) -> Call[UserInFull]:
    return Call("GET", f"/v1/admin/user/{user_id}", document(UserInFull))


def user_statement(user_id: str, limit: int, cursor: str | None) -> Call[Page[Entry]]:
    params = {"limit": limit, "cursor": cursor}
    return Call("GET", f"/v1/admin/user/{user_id}/statement", page(Entry), params=params)


def ledger(limit: int, cursor: str | None, wanted: Mapping[str, Any]) -> Call[Page[LedgerEntry]]:
    return Call("GET", "/v1/admin/statement", page(LedgerEntry), params={**wanted, "limit": limit, "cursor": cursor})


def user_usage(user_id: str, days: int) -> Call[tuple[DayOfUsage, ...]]:
    return Call("GET", f"/v1/admin/user/{user_id}/usage", documents(DayOfUsage), params={"days": days})


def regenerate_key(user_id: str, grace_s: int) -> Call[NewKey]:
    path = f"/v1/admin/user/{user_id}/regenerate-key"
    return Call("POST", path, document(NewKey), json={"grace_seconds": grace_s}, repeatable=False)


def change_role(user_id: str, role: str) -> Call[Any]:
    return Call("POST", f"/v1/admin/user/{user_id}/change-role", json_of, json={"role": role})


def set_status(user_id: str, status: str) -> Call[Any]:
    return Call("POST", f"/v1/admin/user/{user_id}/status", json_of, json={"status": status})


def logs(limit: int, cursor: str | None, wanted: Mapping[str, Any]) -> Call[Page[LogEntry]]:
    return Call("GET", "/v1/admin/logs", page(LogEntry), params={**wanted, "limit": limit, "cursor": cursor})


def tail(wanted: Mapping[str, Any], last_id: str | None) -> Call[None]:
    headers = {"accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    return Call("GET", "/v1/admin/logs/tail", lambda _: None, params=wanted, headers=headers)


def stats() -> Call[Stats]:
    return Call("GET", "/v1/admin/stats", document(Stats))


def all_uploads(limit: int, cursor: str | None) -> Call[Page[Upload]]:
    return Call("GET", "/v1/admin/uploads", page(Upload), params={"limit": limit, "cursor": cursor})
