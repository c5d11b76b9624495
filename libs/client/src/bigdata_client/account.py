"""A user's own account: who they are, their credits, keys and usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from bigdata_client.call import Call, Page, document, documents, json_of, nothing, page


@dataclass(frozen=True)
class Me:
    id: str
    username: str
    role: str
    plan: str = ""
    scopes: tuple[str, ...] = ()
    key_id: str = ""


@dataclass(frozen=True)
class Balance:
    """`held` belongs to queries that are running; what remains is `available`."""

    balance: float
    held: float
    available: float | None = None


@dataclass(frozen=True)
class Entry:
    """One change of the balance; `query_id` leads to the receipt of a capture."""

    entry_id: str
    kind: str
    amount: float
    balance: float
    created_at: datetime
    query_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DayOfUsage:
    date: date
    requests: int
    credits_used: float
    errors: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Key:
    """Never more of a key than its prefix."""

    id: str
    name: str
    prefix: str = ""
    scopes: tuple[str, ...] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class NewKey:
    """`api_key` is shown this once."""

    api_key: str
    id: str | None = None
    name: str | None = None
    prefix: str | None = None
    scopes: tuple[str, ...] | None = None
    expires_at: datetime | None = None


def me() -> Call[Me]:
    return Call("GET", "/v1/me", document(Me))


def credits() -> Call[Balance]:  # noqa: A001 - what the route is called
    return Call("GET", "/v1/credits", document(Balance))


def statement(limit: int, cursor: str | None) -> Call[Page[Entry]]:
    return Call("GET", "/v1/credits/statement", page(Entry), params={"limit": limit, "cursor": cursor})


def usage(days: int) -> Call[tuple[DayOfUsage, ...]]:
    return Call("GET", "/v1/usage", documents(DayOfUsage), params={"days": days})


def stats() -> Call[dict[str, Any]]:
    return Call("GET", "/v1/stats", json_of)


def keys() -> Call[tuple[Key, ...]]:
    return Call("GET", "/v1/keys", documents(Key))


def create_key(name: str, scopes: Sequence[str] | None, expires_at: datetime | None) -> Call[NewKey]:
    body: dict[str, Any] = {"name": name}
    if scopes is not None:
        body["scopes"] = list(scopes)
    if expires_at is not None:
        body["expires_at"] = expires_at.isoformat()
    return Call("POST", "/v1/keys", document(NewKey), json=body, repeatable=False)


def rotate_key(key_id: str, grace_s: int) -> Call[NewKey]:
    path = f"/v1/keys/{key_id}/rotate"
    return Call("POST", path, document(NewKey), json={"grace_seconds": grace_s}, repeatable=False)


def revoke_key(key_id: str) -> Call[None]:
    return Call("DELETE", f"/v1/keys/{key_id}", nothing)
