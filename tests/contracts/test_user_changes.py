"""Changes of users on a real PostgreSQL: whoever is quicker, one super admin stays."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio

from common.errors import Forbidden, NotFound
from common.ids import new_id
from common.migrations import migrate
from common.postgres import Pool, open_postgres
from devstack.postgres import dsn
from devstack.stack import Stack
from gateway.roles import Caller
from gateway.settings import Settings
from gateway.user_changes import change_role, change_status, changing, delete_user
from support.gateway_parts import caller, gateway_settings


@pytest_asyncio.fixture(scope="session")
async def settings(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = gateway_settings(
        tmp_path_factory.mktemp("gateway"),
        postgres_url=dsn(servers.site, "gateway"),
        migrate_postgres_url=dsn(servers.site, "gateway_owner"),
    )
    await migrate(made, "gateway", "gateway")
    return made


@pytest_asyncio.fixture
async def postgres(settings: Settings) -> AsyncIterator[Pool]:
    async with open_postgres(settings) as pool:
        await pool.execute("UPDATE gateway.users SET role = 'user' WHERE role = 'super_admin'")
        yield pool


async def _chief(postgres: Pool) -> Caller:
    user_id = new_id()
    await postgres.execute(
        """INSERT INTO gateway.users (id, username, role, status, plan, credits_mc, activated_at)
           VALUES ($1, $2, 'super_admin', 'active', 'standard', 0, now())""",
        user_id,
        f"chief-{user_id}",
    )
    return caller("super_admin", user_id=user_id)


async def _remove(postgres: Pool, by: Caller, user_id: UUID, how: int) -> None:
    async with changing(postgres, by, user_id) as change:
        if how == 0:
            await change_role(change, "user")
        elif how == 1:
            await change_status(change, "disabled")
        else:
            await delete_user(change)


async def _super_admins(postgres: Pool) -> int:
    count: int = await postgres.fetchval(
        "SELECT count(*) FROM gateway.users WHERE role = 'super_admin' AND status = 'active'"
    )
    return count


@pytest.mark.parametrize("how", [0, 1, 2], ids=["demoted", "disabled", "deleted"])
async def test_of_those_who_remove_each_other_one_stays(postgres: Pool, how: int) -> None:
    chiefs = [await _chief(postgres) for _ in range(4)]
    results = await asyncio.gather(
        *(
            _remove(postgres, by, other.user_id, how)
            for by, other in zip(chiefs, [*chiefs[1:], chiefs[0]], strict=True)
        ),
        return_exceptions=True,
    )
    assert await _super_admins(postgres) >= 1
    refused = [result for result in results if result is not None]
    assert refused
    assert all(isinstance(result, Forbidden | NotFound) for result in refused), refused


async def test_the_last_one_cannot_be_removed(postgres: Pool) -> None:
    last = await _chief(postgres)
    for how in range(3):
        with pytest.raises(Forbidden, match="last super admin"):
            await _remove(postgres, last, last.user_id, how)
    assert await _super_admins(postgres) == 1


async def test_a_change_that_is_refused_changes_nothing(postgres: Pool) -> None:
    chief, other = await _chief(postgres), await _chief(postgres)
    with pytest.raises(Forbidden):
        await _remove(postgres, caller("admin", user_id=new_id()), other.user_id, 2)
    with pytest.raises(NotFound):
        await _remove(postgres, chief, new_id(), 2)
    assert await _super_admins(postgres) == 2
