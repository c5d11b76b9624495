"""The keys of one user: listed, made, renewed with a grace period, revoked."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from common.errors import InvalidRequest, NotFound
from common.ids import new_id
from common.postgres import Connection, Pool, outage_is_unavailable
from gateway.api_keys import NewKey, new_key

_FIELDS = "id, name, prefix, scopes, requests_per_minute, created_at, expires_at, revoked_at, last_used_at"
_OF_USER = f"SELECT {_FIELDS} FROM gateway.api_keys WHERE user_id = $1 ORDER BY created_at, id"  # noqa: S608 - column names
_ALIVE = "(revoked_at IS NULL OR revoked_at > now()) AND (expires_at IS NULL OR expires_at > now())"
_HOW_MANY = f"SELECT count(*) FROM gateway.api_keys WHERE user_id = $1 AND {_ALIVE}"  # noqa: S608 - a condition of ours
# Locked, so that of two who make the last key that is allowed one waits for the other and then counts it.
_LOCK_USER = "SELECT id FROM gateway.users WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE"
_ADD = f"""
    INSERT INTO gateway.api_keys (id, user_id, name, prefix, key_sha256, scopes, requests_per_minute, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {_FIELDS}
"""  # noqa: S608 - column names
_ONE_ALIVE = f"""
    SELECT {_FIELDS}, now() + (expires_at - created_at) AS next_expires_at
      FROM gateway.api_keys WHERE id = $1 AND user_id = $2 AND {_ALIVE}
"""  # noqa: S608 - a condition of ours
_END = f"""
    UPDATE gateway.api_keys SET revoked_at = least(revoked_at, now() + $2 * interval '1 second')
     WHERE id = $1 RETURNING {_FIELDS}
"""  # noqa: S608 - column names
_END_ALL = f"""
    UPDATE gateway.api_keys SET revoked_at = least(revoked_at, now() + $2 * interval '1 second')
     WHERE user_id = $1 AND id <> $3 AND {_ALIVE}
"""  # noqa: S608 - a condition of ours


@dataclass(frozen=True)
class Wanted:
    """What a new key is to be; scopes None are those of its user's role, whatever that becomes."""

    name: str
    scopes: Iterable[str] | None = None
    requests_per_minute: int | None = None
    expires_at: datetime | None = None


async def keys_of(postgres: Pool, user_id: UUID) -> list[asyncpg.Record]:
    """All of them, oldest first, those that are dead included; never more of a key than its prefix."""
    async with outage_is_unavailable("The user store"):
        return await postgres.fetch(_OF_USER, user_id)


async def add_key(postgres: Pool, user_id: UUID, wanted: Wanted, *, keys_max: int) -> tuple[asyncpg.Record, NewKey]:
    """Raises InvalidRequest when the user has as many as allowed."""
    async with outage_is_unavailable("The user store"), postgres.acquire() as connection, connection.transaction():
        await _lock(connection, user_id)
        if await connection.fetchval(_HOW_MANY, user_id) >= keys_max:
            raise InvalidRequest(
                f"You have {keys_max} keys, as many as a user may have: revoke one first",
                details=[{"path": "name", "error": f"at most {keys_max} keys that work"}],
            )
        return await _add(connection, user_id, wanted)


async def rotate_key(
    postgres: Pool, key: asyncpg.Record, user_id: UUID, *, grace_s: int
) -> tuple[asyncpg.Record, NewKey, asyncpg.Record]:
    """A new key with the old one's name, scopes, limit and length of life; the old one dies after the grace period.

    Returns the new row, its secret and the old row. Raises NotFound when the old one is dead by now.
    """
    async with outage_is_unavailable("The user store"), postgres.acquire() as connection, connection.transaction():
        await _lock(connection, user_id)
        old = await connection.fetchrow(_ONE_ALIVE, key["id"], user_id)
        # One in its grace period has its successor already.
        if old is None or old["revoked_at"] is not None:
            raise NotFound
        like_it = Wanted(old["name"], old["scopes"], old["requests_per_minute"], old["next_expires_at"])
        added, secret = await _add(connection, user_id, like_it)
        ended = await connection.fetchrow(_END, old["id"], grace_s)
    assert ended is not None  # noqa: S101 - its row is locked
    return added, secret, ended


async def revoke_key(postgres: Pool, key_id: UUID) -> asyncpg.Record:
    async with outage_is_unavailable("The user store"):
        ended = await postgres.fetchrow(_END, key_id, 0)
    assert ended is not None  # noqa: S101 - keys are never deleted
    return ended


async def replace_all_keys(
    connection: Connection, user_id: UUID, wanted: Wanted, *, grace_s: int
) -> tuple[asyncpg.Record, NewKey]:
    """One new key; every other dies at once or after the grace period. Inside the caller's transaction."""
    await _lock(connection, user_id)
    added, secret = await _add(connection, user_id, wanted)
    await connection.execute(_END_ALL, user_id, grace_s, added["id"])
    return added, secret


async def key_of(postgres: Pool, key_id: UUID, user_id: UUID) -> asyncpg.Record:
    """One of the user's keys that still works, or NotFound: another user's looks the same."""
    async with outage_is_unavailable("The user store"):
        key = await postgres.fetchrow(_ONE_ALIVE, key_id, user_id)
    if key is None:
        raise NotFound
    return key


async def _lock(connection: Connection, user_id: UUID) -> None:
    if not await connection.fetchval(_LOCK_USER, user_id):
        raise NotFound


async def _add(connection: Connection, user_id: UUID, wanted: Wanted) -> tuple[asyncpg.Record, NewKey]:
    key = new_key()
    scopes = None if wanted.scopes is None else sorted(wanted.scopes)
    of_user = (new_id(), user_id, wanted.name, key.prefix, key.sha256)
    row = await connection.fetchrow(_ADD, *of_user, scopes, wanted.requests_per_minute, wanted.expires_at)
    assert row is not None  # noqa: S101 - RETURNING
    return row, key
