"""Who is signed in: a random token in the browser's cookie, its hash and the key's id in Postgres.

Any gateway can answer any request of a session, and a key that is revoked, or a user that is disabled, ends it.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from uuid import UUID

from fastapi import Request, Response

from common.postgres import Pool, outage_is_unavailable

COOKIE = "bigdata_console"
_PATH = "/console"
# Written at most this often: a page makes many requests.
_SEEN_EVERY_S = 30


@dataclass(frozen=True, slots=True)
class Session:
    """`key_sha256` leads to the caller; `csrf` is what a page must send back with every change."""

    token: str
    key_sha256: str
    csrf: str


_OPEN = """
    WITH ended AS (
        DELETE FROM gateway.console_sessions
         WHERE seen_at <= now() - make_interval(secs => $3) OR created_at <= now() - make_interval(secs => $4))
    INSERT INTO gateway.console_sessions (token_sha256, key_id) VALUES ($1, $2)
"""
_FIND = """
    SELECT k.key_sha256, s.seen_at < now() - make_interval(secs => $4) AS stale
      FROM gateway.console_sessions AS s JOIN gateway.api_keys AS k ON k.id = s.key_id
     WHERE s.token_sha256 = $1
       AND s.seen_at > now() - make_interval(secs => $2) AND s.created_at > now() - make_interval(secs => $3)
"""
_SEEN = "UPDATE gateway.console_sessions SET seen_at = now() WHERE token_sha256 = $1"
_END = "DELETE FROM gateway.console_sessions WHERE token_sha256 = $1"


class Sessions:
    """Sign-ins of the console. Without Postgres nothing here answers, and neither does any other route."""

    def __init__(self, postgres: Pool, *, idle_s: int, longest_s: int) -> None:
        self._postgres = postgres
        self._idle_s = idle_s
        self._longest_s = longest_s

    async def open(self, key_id: UUID) -> str:
        """The new session's token; known only to the browser from here on."""
        token = secrets.token_urlsafe(32)
        async with outage_is_unavailable("The console"):
            await self._postgres.execute(_OPEN, _digest(token), key_id, self._idle_s, self._longest_s)
        return token

    async def find(self, token: str, *, noticed: bool) -> Session | None:
        """The session unless it has ended. `noticed`: somebody is there, so the idle time begins again."""
        async with outage_is_unavailable("The console"):
            row = await self._postgres.fetchrow(_FIND, _digest(token), self._idle_s, self._longest_s, _SEEN_EVERY_S)
            if row is not None and row["stale"] and noticed:
                await self._postgres.execute(_SEEN, _digest(token))
        return Session(token, row["key_sha256"], csrf_of(token)) if row is not None else None

    async def end(self, token: str) -> None:
        async with outage_is_unavailable("The console"):
            await self._postgres.execute(_END, _digest(token))


def csrf_of(token: str) -> str:
    """Follows from the session's token, which no script can read; so it needs no place of its own."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_csrf_of(session: Session, presented: str) -> bool:
    return hmac.compare_digest(session.csrf.encode(), presented.encode())


def token_in(headers: list[tuple[bytes, bytes]]) -> str | None:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in headers:
        if name == b"cookie":
            try:
                cookies.load(value.decode("latin-1"))
            except CookieError:
                return None
    return cookies[COOKIE].value or None if COOKIE in cookies else None


def set_cookie(answer: Response, request: Request, token: str, longest_s: int) -> None:
    answer.set_cookie(
        COOKIE,
        token,
        max_age=longest_s,
        path=_PATH,
        secure=request.url.scheme == "https",  # a local stack has no TLS, and is then not reachable from elsewhere
        httponly=True,
        samesite="strict",
    )


def clear_cookie(answer: Response) -> None:
    answer.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
