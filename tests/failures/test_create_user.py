"""Creating a user is a saga over two services: whatever step it dies at, repeating it finishes it, once."""

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.stack import environment, without


@pytest.mark.parametrize("place", ["gateway.user_claimed", "gateway.user_granted"])
async def test_a_creation_that_died_is_finished_by_its_repeat(stack: Stack, answered: Answered, place: str) -> None:
    name = f"saga-{new_id().hex[-12:]}"
    async with (
        environment(stack, "gateway", {"FAULTPOINTS": place}),
        open_client(stack, stack.site.secrets.admin_key, answered) as admin,
    ):
        with pytest.raises(httpx.TransportError):
            await admin.post("/v1/admin/create-user", json={"username": name, "credits": 7})
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        [unfinished] = (await admin.get("/v1/admin/users", params={"search": name})).json()
        assert unfinished["status"] == "disabled"
        other = await admin.post("/v1/admin/create-user", json={"username": name, "credits": 8})
        assert other.status_code == 409
        created = await create_user(admin, name, credits=7)
        assert created["user"]["id"] == unfinished["id"]
        again = await admin.post("/v1/admin/create-user", json={"username": name, "credits": 7})
        assert again.status_code == 409
    async with open_client(stack, created["api_key"], answered) as user:
        assert (await user.get("/v1/credits")).json()["balance"] == 7
        assert len((await user.get("/v1/credits/statement")).json()) == 1


async def test_without_credits_nobody_half_made_can_call(stack: Stack, answered: Answered) -> None:
    name = f"saga-{new_id().hex[-12:]}"
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        async with without(stack, "credits"):
            refused = await admin.post("/v1/admin/create-user", json={"username": name, "credits": 7})
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        created = await create_user(admin, name, credits=7)
    async with open_client(stack, created["api_key"], answered) as user:
        assert (await user.get("/v1/credits")).json()["balance"] == 7
