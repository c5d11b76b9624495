"""Creating a user, interrupted wherever it can be: in the end there is one user with one grant."""

from typing import Any

import asyncpg
import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, open_client
from support.polling import until
from support.stack import environment, further_copy

# In their order: the name is taken, the account opened, the credits granted, the user active with a key.
_STEPS = ("gateway.user_claimed", "gateway.user_opened", "gateway.user_granted", "gateway.user_activated")


@pytest.mark.long
async def test_a_creation_killed_at_every_step_in_turn_makes_one_user_with_one_grant(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    ask = {"username": f"saga-{new_id()}", "credits": 7}
    found = []
    for step in _STEPS:
        async with (
            further_copy(stack, "gateway", index=3, env={"FAULTPOINTS": step}) as copy,
            open_client(stack, stack.site.secrets.admin_key, answered, gateway=copy) as dying,
        ):
            with pytest.raises(httpx.TransportError):
                await dying.post("/v1/admin/create-user", json=ask)
        found.append(await _traces_of(stack, ask["username"]))
    assert found == [
        [("disabled", None, 0, 0)],
        [("disabled", 0, 0, 0)],
        [("disabled", 7000, 1, 0)],
        [("active", 7000, 1, 1)],
    ]
    taken = await admin.post("/v1/admin/create-user", json=ask)
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    assert await _traces_of(stack, ask["username"]) == found[-1]


async def test_a_grant_whose_answer_was_lost_is_not_given_again(stack: Stack, admin: httpx.AsyncClient) -> None:
    """Credits die when the grant is committed and not yet answered; the repeat finds it."""
    ask = {"username": f"saga-{new_id()}", "credits": 7}
    async with environment(stack, "credits", {"FAULTPOINTS": "credits.after_commit:2"}):
        refused = await admin.post("/v1/admin/create-user", json=ask)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert await _traces_of(stack, ask["username"]) == [("disabled", 7000, 1, 0)]

    async def created() -> bool:
        return (await admin.post("/v1/admin/create-user", json=ask)).status_code == 200

    await until("credits to answer again", created)
    assert await _traces_of(stack, ask["username"]) == [("active", 7000, 1, 1)]


_TRACES = """
    SELECT status, (SELECT posted FROM credits.accounts a WHERE a.user_id = u.id) AS posted,
           (SELECT count(*) FROM credits.entries e WHERE e.user_id = u.id) AS entries,
           (SELECT count(*) FROM gateway.api_keys k WHERE k.user_id = u.id) AS keys
      FROM gateway.users u WHERE lower(username) = lower($1)
"""


async def _traces_of(stack: Stack, username: Any) -> list[tuple[Any, ...]]:
    """Every user of this name: status, millicredits, entries, keys."""
    stores = await asyncpg.connect(str(stack.status().postgres))
    try:
        return [tuple(row.values()) for row in await stores.fetch(_TRACES, username)]
    finally:
        await stores.close()
