"""What was answered is charged and logged once, whenever the gateway dies and whatever is down."""

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until
from support.stack import environment


async def test_a_gateway_killed_right_after_spooling_has_charged_once(stack: Stack, answered: Answered) -> None:
    """The answer never left; the record did: the client asks again with its key and gets the stored answer."""
    async with open_client(stack, stack.site.secrets.admin_key, answered) as admin:
        created = await create_user(admin, f"spool-{new_id().hex[-12:]}", credits=5)
    key = {"Idempotency-Key": new_id().hex}
    async with (
        environment(stack, "gateway", {"FAULTPOINTS": "gateway.spooled:2"}),
        open_client(stack, created["api_key"], answered) as user,
    ):
        assert (await user.get("/v1/me")).status_code == 200
        with pytest.raises(httpx.TransportError):
            await user.post("/v1/query", json={"limit": 1}, headers=key)
    async with open_client(stack, created["api_key"], answered) as user:

        async def repeated() -> bool:
            return (await user.post("/v1/query", json={"limit": 1}, headers=key)).status_code == 200

        await until("the stored answer", repeated)
        assert (await user.get("/v1/credits")).json()["balance"] == 4
