"""Clocks that are wrong: a hold's deadline is the database's business alone."""

from datetime import datetime, timedelta

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.accounts import Account, never_asked
from support.polling import until
from support.repository import ROOT
from support.stack import further_copy

_OPEN = """
    SELECT created_at >= $2 AND created_at <= clock_timestamp() AS made_now, expires_at - created_at AS lifetime
      FROM credits.holds WHERE user_id = $1 AND state = 'open'
"""


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_gateway_whose_clock_is_wrong_holds_as_long_as_any_other(
    stack: Stack, account: Account, hours: int
) -> None:
    """18: for a host with a wrong clock stands a process whose Python clocks are shifted.

    Its first query is charged as always. In the second it dies, so that the hold stays: it was made now, it ends after
    its lifetime by the database's clock, and the sweep that ends another user's hold meanwhile leaves it alone.
    """
    wrong = {
        "PYTHONPATH": str(ROOT / "tests/support/clock_shift"),
        "CLOCK_SHIFT_S": str(hours * 3600),
        "HOLD_TTL_S": "200",
        "FAULTPOINTS": "gateway.reserved:2",
    }
    started = await account.ledger.fetchval("SELECT clock_timestamp()")
    async with further_copy(stack, "gateway", env=wrong) as copy, account.client(copy) as client:
        answer = await client.post("/v1/query", json=never_asked())
        told = datetime.fromisoformat(answer.json()["metadata"]["as_of"])
        assert abs(told - started - timedelta(hours=hours)) < timedelta(minutes=10)  # it is wrong indeed
        await account.settled_at(9)
        with pytest.raises(httpx.TransportError):
            await client.post("/v1/query", json=never_asked())
    await _a_hold_of_a_second_runs_out(stack, account)
    [hold] = await account.ledger.fetch(_OPEN, account.user_id, started)
    assert (hold["made_now"], hold["lifetime"]) == (True, timedelta(seconds=200))
    await account.let_holds_run_out()
    await account.settled_at(9)
    assert await account.holds() == ["captured", "expired", "expired"]


async def _a_hold_of_a_second_runs_out(stack: Stack, account: Account) -> None:
    """By itself, straight from the credits service: the sweep has been round when it is gone."""
    token = {"Authorization": f"Bearer {stack.site.secrets.credits_token}"}
    body = {"user_id": str(account.user_id), "hold_id": str(new_id()), "amount_mc": 1, "ttl_s": 1, "digest": "0" * 64}
    async with httpx.AsyncClient(base_url=stack.url("credits"), headers=token) as credits_service:
        assert (await credits_service.post("/v1/reserve", json=body)).is_success

    async def swept() -> bool:
        return "expired" in await account.holds()

    await until("the sweep", swept)
