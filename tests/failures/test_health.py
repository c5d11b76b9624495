"""Health says what is away, in time, and everything else goes on."""

import httpx
import pytest

from devstack.stack import Stack
from support.client import Answered, open_client
from support.polling import until
from support.proxied import Proxied


@pytest.mark.parametrize("away", ["credits", "clickhouse", "postgres"])
async def test_what_is_away_is_unhealthy_and_the_answer_is_503(
    stack: Stack, answered: Answered, proxied: Proxied, away: str
) -> None:
    async with open_client(stack, None, answered, gateway=proxied.gateway) as anybody:
        assert (await anybody.get("/v1/health")).status_code == 200
        getattr(proxied, away).black_hole()
        answer = await anybody.get("/v1/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
        assert {name for name, state in answer.json()["services"].items() if state == "unhealthy"} == {away}
        proxied.heal()

        async def well() -> bool:
            return (await anybody.get("/v1/health")).status_code == 200

        await until("health after the fault", well, deadline_s=30)


@pytest.mark.long
async def test_a_gateway_without_postgres_is_not_ready_and_yet_alive(stack: Stack, proxied: Proxied) -> None:
    async with httpx.AsyncClient(base_url=stack.url(proxied.gateway), timeout=30) as http:
        proxied.postgres.black_hole()
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/healthz")).status_code == 200
