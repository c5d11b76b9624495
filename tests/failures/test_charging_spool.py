"""Finished requests whose charge and log entry wait on a disk: of a killed process, or without room."""

import asyncio
import json
from collections import Counter

import httpx

from devstack.stack import Stack
from support.accounts import Account, never_asked, open_account
from support.client import Answered
from support.polling import until
from support.proxied import Proxied, open_proxied
from support.stack import further_copy
from support.tcp_proxy import open_proxy

_QUERIES = 90
_OTHERS = 910


async def test_1000_finished_requests_of_a_killed_gateway_are_charged_and_logged_by_the_next(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    """37: neither credits nor Kafka could be reached from the last answer to its death."""
    async with (
        open_account(stack, admin, answered, credits=_QUERIES) as account,
        open_proxy("127.0.0.1", stack.site.ports["kafka"]) as kafka,
    ):
        kafka.refuse()  # from the start: later the broker's own address would be known
        without_kafka = {"KAFKA_BROKERS": f"127.0.0.1:{kafka.port}", "CREDITS_TIMEOUT_S": "30"}
        async with open_proxied(stack, index=7, env=without_kafka) as proxied:
            await _finish(account, proxied)
            assert len(answered) > _QUERIES + _OTHERS
            await stack.kill(proxied.gateway)
            assert await account.balance() == (_QUERIES, _QUERIES)
        async with further_copy(stack, "gateway", index=7):
            await account.settled_at(0)
        assert await account.charges() == _QUERIES


async def _finish(account: Account, proxied: Proxied) -> None:
    """Queries that have their holds before credits go, and their answers after."""
    async with account.client(proxied.gateway) as client:
        assert (await client.get("/v1/me")).status_code == 200
        proxied.clickhouse.black_hole()
        queries = [asyncio.create_task(client.post("/v1/query", json=never_asked())) for _ in range(_QUERIES)]

        async def held() -> bool:
            return await account.balance() == (_QUERIES, _QUERIES)

        await until("every hold", held, deadline_s=60)
        proxied.credits.refuse()
        proxied.clickhouse.heal()
        assert Counter(answer.status_code for answer in await asyncio.gather(*queries)) == {200: _QUERIES}
        for _ in range(_OTHERS // 70):
            others = await asyncio.gather(*(client.get("/v1/me") for _ in range(70)))
            assert Counter(answer.status_code for answer in others) == {200: 70}


async def test_with_a_full_spool_requests_are_answered_and_the_loss_is_counted_and_told(
    stack: Stack, account: Account
) -> None:
    """37: Kafka is away until 64 KiB of log entries are full; queries go on, and what was dropped costs nobody."""
    lost: Answered = set()  # the log cannot have them all
    async with open_proxy("127.0.0.1", stack.site.ports["kafka"]) as kafka:
        kafka.refuse()
        small = {
            "KAFKA_BROKERS": f"127.0.0.1:{kafka.port}",
            "SPOOL_BYTES_MAX": str(1 << 16),
            "SPOOL_SEGMENT_BYTES_MAX": str(1 << 12),
        }
        async with (
            further_copy(stack, "gateway", index=6, env=small) as copy,
            account.client(copy, answered=lost) as client,
        ):
            for _ in range(5):
                answers = await asyncio.gather(*(client.get("/v1/me") for _ in range(60)))
                assert Counter(answer.status_code for answer in answers) == {200: 60}
            assert await _dropped(stack, copy) > 0
            before = await _dropped(stack, copy)
            assert (await client.post("/v1/query", json=never_asked())).status_code == 200
            assert await _dropped(stack, copy) == before + 1
            assert _alarms(stack, copy)
            assert await account.balance() == (10, 1)  # held until its deadline, never charged
            await account.let_holds_run_out()
            await account.settled_at(10)
            kafka.heal()

            async def works_again() -> bool:
                assert (await client.get("/v1/me")).status_code == 200
                before = await _dropped(stack, copy)
                return (await client.get("/v1/me")).is_success and await _dropped(stack, copy) == before

            await until("room in the spool", works_again)
            assert (await client.post("/v1/query", json=never_asked())).status_code == 200
            await account.settled_at(9)
    assert await account.charges() == 1


async def _dropped(stack: Stack, gateway: str) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{stack.ops_url(gateway)}/metrics")).text
    found = [line for line in text.splitlines() if line.startswith('bigdata_spool_dropped_total{reason="full"}')]
    return float(found[0].split()[-1]) if found else 0


def _alarms(stack: Stack, gateway: str) -> int:
    lines = stack.site.log(gateway).read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines if "finished requests are not spooled" in line]
    return sum(one["level"] == "error" for one in told)
