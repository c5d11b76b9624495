"""What an admin changes about a user: role, status, keys, datasets, and the end of the user. One transaction each.

Every change begins in `changing`, which locks whoever it concerns and applies the rules of roles.py to the locked rows.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from common.errors import InvalidRequest, NotFound
from common.postgres import Connection, Pool, outage_is_unavailable
from gateway.api_keys import NewKey
from gateway.roles import Caller, require_grantable, require_may_act, require_one_left
from gateway.user_keys import Wanted, replace_all_keys

# In id order and before the user: two who remove a super admin wait for each other, and the second counts again.
_LOCK_SUPER_ADMINS = """
    SELECT id FROM gateway.users WHERE role = 'super_admin' AND status = 'active' ORDER BY id FOR NO KEY UPDATE
"""
_LOCK_USER = """
    SELECT id, username, role, status, activated_at FROM gateway.users
     WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE
"""
# What the key remembers of the caller may be seconds old.
_ROLE_NOW = "SELECT role FROM gateway.users WHERE id = $1 AND status = 'active'"


@dataclass(frozen=True)
class Changing:
    connection: Connection
    user: asyncpg.Record
    super_admins: frozenset[UUID]

    def require_not_the_last(self) -> None:
        if self.user["id"] in self.super_admins:
            require_one_left(self.super_admins, self.user["id"])


@asynccontextmanager
async def changing(postgres: Pool, caller: Caller, user_id: UUID, *, to_role: str = "user") -> AsyncIterator[Changing]:
    """A transaction in which the caller may change this user. Raises NotFound, Forbidden, Unavailable."""
    async with outage_is_unavailable("The user store"), postgres.acquire() as connection, connection.transaction():
        super_admins = frozenset(row["id"] for row in await connection.fetch(_LOCK_SUPER_ADMINS))
        user = await connection.fetchrow(_LOCK_USER, user_id)
        role_now = await connection.fetchval(_ROLE_NOW, caller.user_id)
        if user is None:
            raise NotFound
        require_may_act(caller, role_now or "", user["role"], to_role)
        yield Changing(connection, user, super_admins)


async def change_role(change: Changing, role: str) -> None:
    if role != "super_admin":
        change.require_not_the_last()
    await change.connection.execute("UPDATE gateway.users SET role = $2 WHERE id = $1", change.user["id"], role)


async def change_status(change: Changing, status: str) -> None:
    if status == "disabled":
        change.require_not_the_last()
    elif change.user["activated_at"] is None:
        raise InvalidRequest(
            "The creation of this user broke off: repeat it",
            details=[{"path": "status", "error": "create-user with the same fields makes this user active"}],
        )
    await change.connection.execute("UPDATE gateway.users SET status = $2 WHERE id = $1", change.user["id"], status)


async def regenerate_key(change: Changing, *, scopes: Iterable[str] | None, grace_s: int) -> NewKey:
    """One new key for all the old ones."""
    if scopes is not None:
        require_grantable(change.user["role"], scopes)
    wanted = Wanted("regenerated", scopes)
    _, key = await replace_all_keys(change.connection, change.user["id"], wanted, grace_s=grace_s)
    return key


_ANONYMISE = """
    UPDATE gateway.users SET status = 'disabled', deleted_at = now(), username = 'deleted-' || id WHERE id = $1
"""
_END_KEYS = "UPDATE gateway.api_keys SET revoked_at = least(revoked_at, now()), name = '' WHERE user_id = $1"
_END_GRANTS = "DELETE FROM gateway.dataset_grants WHERE user_id = $1"


async def delete_user(change: Changing) -> None:
    """For good. What the ledger and the log say stays, under an id that no longer names anybody."""
    change.require_not_the_last()
    for statement in (_ANONYMISE, _END_KEYS, _END_GRANTS):
        await change.connection.execute(statement, change.user["id"])


_GRANT = """
    INSERT INTO gateway.dataset_grants (user_id, dataset, granted_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_REVOKE_GRANT = "DELETE FROM gateway.dataset_grants WHERE user_id = $1 AND dataset = $2"
_GRANTED = "SELECT dataset FROM gateway.dataset_grants WHERE user_id = $1 ORDER BY dataset"


async def grant_dataset(change: Changing, dataset: str, by: UUID) -> None:
    await change.connection.execute(_GRANT, change.user["id"], dataset, by)


async def revoke_dataset(change: Changing, dataset: str) -> None:
    await change.connection.execute(_REVOKE_GRANT, change.user["id"], dataset)


async def datasets_granted(postgres: Pool, user_id: UUID) -> list[str]:
    async with outage_is_unavailable("The user store"):
        return [row["dataset"] for row in await postgres.fetch(_GRANTED, user_id)]
