"""API keys: who is calling, with which scopes.

A key is `bd_`, eight characters that name it, and 256 random bits. Stored are its prefix and its SHA-256: enough for
a key of that entropy, and a stored hash cannot be used as a key.
"""

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from fastapi import Request

from common.clock import Clock
from common.errors import BadHeader, Forbidden, InvalidApiKey, MissingApiKey, RateLimited, Unavailable
from common.lifecycle import forever, in_background
from common.postgres import Pool, borrowed, outage_is_unavailable
from gateway.answers import Row
from gateway.audit_trail import trail_of
from gateway.merging import Merging
from gateway.rate_limit import RateLimit
from gateway.roles import Caller, Scope, require_role, require_scope, scopes_of
from gateway.settings import Settings

__all__ = ["ApiKeys", "Caller", "NewKey", "caller_with", "key_digest", "new_key", "open_api_keys"]
_LOOK_UPS_AT_ONCE = 256
_LOOK_UPS_WAITING = 5_000
_LOOK_UP_S = 2.0
_BAD_KEYS_KEPT = 10_000
# In a request's state: the digest of the key somebody signed in to the console with. Only the console's door sets it.
SIGNED_IN = "signed_in"
_LAST_USED_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment it is known."""

    secret: str
    prefix: str
    sha256: str


def new_key() -> NewKey:
    prefix = "bd_" + secrets.token_hex(4)
    secret = f"{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(secret, prefix, key_digest(secret.encode()))


def key_digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def presented_key(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The one key in the request's headers, as bytes: what is not ASCII is simply unknown."""
    found = [value.strip() for name, value in headers if name == b"x-api-key"]
    for name, value in headers:
        if name == b"authorization":
            kind, _, rest = value.strip().partition(b" ")
            if kind.lower() != b"bearer":
                raise InvalidApiKey
            found.append(rest.strip())
    if len(found) > 1:
        raise BadHeader("Send exactly one API key, in x-api-key or as Authorization: Bearer")
    if not found or not found[0]:
        raise MissingApiKey
    return found[0]


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller | None
    until: float  # by the process's clock


_LOOK_UP = """
    SELECT k.key_sha256, k.id AS key_id, k.scopes, k.requests_per_minute, u.id AS user_id, u.username, u.role, u.plan,
           ARRAY(SELECT dataset FROM gateway.dataset_grants AS g WHERE g.user_id = u.id) AS datasets,
           extract(epoch FROM least(k.revoked_at, k.expires_at) - now())::float8 AS left_s
      FROM gateway.api_keys AS k JOIN gateway.users AS u ON u.id = k.user_id
     WHERE k.key_sha256 = ANY($1) AND u.status = 'active'
       AND (k.revoked_at IS NULL OR k.revoked_at > now()) AND (k.expires_at IS NULL OR k.expires_at > now())
"""

_NOTE_USE = """
    UPDATE gateway.api_keys AS k SET last_used_at = greatest(k.last_used_at, used.at)
      FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at)
     WHERE k.id = used.id
"""


class ApiKeys:
    """Known keys are kept for seconds, unknown ones too: the hot path asks no store, and a revoked key dies soon."""

    def __init__(self, postgres: Pool, settings: Settings, clock: Clock) -> None:
        self._postgres = postgres
        self._clock = clock
        self._keep_s = settings.api_key_cache_s
        self._keep_max = settings.api_key_cache_max
        self._good: dict[str, _Known] = {}
        self._bad: dict[str, _Known] = {}
        self._forgotten = 0
        self._used: dict[UUID, datetime] = {}
        # Of one batch, not one by one: a thousand strangers with bad keys are four statements.
        self._look_ups: Merging[str, tuple[Caller | None, float | None]] = Merging(
            self._look_up, batch_max=_LOOK_UPS_AT_ONCE, waiting_max=_LOOK_UPS_WAITING
        )

    async def caller(self, key: bytes) -> Caller:
        """Raises InvalidApiKey, the same for unknown, revoked, expired and disabled; Unavailable without Postgres."""
        return await self.caller_of(key_digest(key))

    async def caller_of(self, digest: str) -> Caller:
        """Likewise, by the key's digest: that of a session of the console, which never keeps the key."""
        known = self._good.get(digest) or self._bad.get(digest)
        if known is None or self._clock.monotonic() >= known.until:
            known = await self._ask(digest)
        if known.caller is None:
            raise InvalidApiKey
        self._used[known.caller.key_id] = self._clock.now()
        return known.caller

    def forget(self, user_id: UUID) -> None:
        """Something about this user or a key of theirs has changed."""
        self._forgotten += 1
        theirs = [digest for digest, known in self._good.items() if known.caller and known.caller.user_id == user_id]
        for digest in theirs:
            del self._good[digest]
        self._bad.clear()  # a disabled user's key was there, and may be good again

    def forget_all(self) -> None:
        self._forgotten += 1
        self._good.clear()
        self._bad.clear()

    async def note_use(self) -> None:
        used, self._used = self._used, {}
        if used:
            await self._postgres.execute(_NOTE_USE, list(used), list(used.values()))

    async def _ask(self, digest: str) -> _Known:
        asked_at = self._clock.monotonic()  # before asking: what is revoked meanwhile must not be kept longer
        forgotten = self._forgotten
        caller, left_s = await self._look_ups.submit(digest)
        keep_s = self._keep_s if left_s is None else min(self._keep_s, left_s)
        known = _Known(caller, asked_at + keep_s)
        self._good.pop(digest, None)
        self._bad.pop(digest, None)
        # What was read while a change was announced may be what it was before.
        if forgotten == self._forgotten:
            kept, most = (self._bad, _BAD_KEYS_KEPT) if caller is None else (self._good, self._keep_max)
            if len(kept) >= most:
                kept.pop(next(iter(kept)))  # asked for again longest ago: least recently used, to within keep_s
            kept[digest] = known
        return known

    async def _look_up(self, digests: list[str]) -> list[tuple[Caller | None, float | None]]:
        async with outage_is_unavailable("The user store"), borrowed(self._postgres, _LOOK_UP_S) as connection:
            rows = await connection.fetch(_LOOK_UP, digests)
        found = {row["key_sha256"]: (_caller(row), row["left_s"]) for row in rows}
        # Looked up and compared as digests: how long that takes says nothing about a key, and neither a prefix that
        # exists nor one that does not changes what is done.
        return [found.get(digest, (None, None)) for digest in digests]


def _caller(row: Row) -> Caller:
    return Caller(
        user_id=UUID(int=row["user_id"].int),  # not the driver's subclass: every request encodes it
        username=row["username"],
        role=row["role"],
        key_id=UUID(int=row["key_id"].int),
        scopes=scopes_of(row["role"], row["scopes"]),
        plan=row["plan"],
        datasets=frozenset(row["datasets"]),
        requests_per_minute=row["requests_per_minute"],
    )


_ANSWERS = (BadHeader, MissingApiKey, InvalidApiKey, Forbidden, RateLimited, Unavailable)


def caller_with(
    scope: Scope, *, roles: frozenset[str] | None = None, readers: frozenset[str] = frozenset()
) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: authenticates, admits by the caller's plan, checks scope and role, notes who it is in the trail.

    To the roles in `readers` the scope `read` is enough: what others do is theirs to look at.
    """
    routes: Scope = scope if roles is None else "admin"

    async def admitted(request: Request) -> Caller:
        gateway = request.app.state.gateway
        api_keys: ApiKeys = gateway.api_keys
        rate_limit: RateLimit = gateway.rate_limit
        trail = trail_of(request)
        signed_in: str | None = request.scope["state"].get(SIGNED_IN)
        try:
            caller = await api_keys.caller_of(signed_in or key_digest(presented_key(request.scope["headers"])))
        except InvalidApiKey:
            rate_limit.note_bad_key(request.client.host if request.client else "")
            raise
        trail.caller = caller
        admission = await rate_limit.admit(caller, routes)
        trail.headers += admission.headers
        trail.leave = admission.leave
        admission.raise_if_refused()
        require_scope(caller, "read" if caller.role in readers else scope)
        if roles is not None:
            require_role(caller, roles)
        return caller

    admitted.answers = _ANSWERS  # type: ignore[attr-defined]  # read by common.openapi, like the next
    admitted.takes_key = True  # type: ignore[attr-defined]
    return admitted


@asynccontextmanager
async def open_api_keys(postgres: Pool, settings: Settings, clock: Clock) -> AsyncIterator[ApiKeys]:
    api_keys = ApiKeys(postgres, settings, clock)
    try:
        async with in_background(forever("note key use", api_keys.note_use, pause_s=_LAST_USED_EVERY_S)):
            yield api_keys
    finally:
        with suppress(Exception):  # a statistic: losing the last seconds of it is fine
            await api_keys.note_use()
