"""Postgres is away, cut off or in trouble: no query runs unpaid, nobody is told that their key is wrong."""

import asyncio
import time
from collections import Counter
from functools import partial

import asyncpg
import httpx

from devstack.postgres import dsn
from devstack.stack import Stack
from support.accounts import Account, answered_in_the_end, never_asked, open_account, some_key
from support.client import Answered
from support.polling import until
from support.proxied import Proxied
from support.stack import without

_RECOVERED_S = 10.0  # I8


async def test_without_postgres_queries_are_unavailable_and_none_runs(
    stack: Stack, account: Account, proxied: Proxied
) -> None:
    """13: a known key, a key that this gateway never saw and one that nobody has: 503 for each, never 401."""
    async with (
        account.client(proxied.gateway) as known,
        account.client(proxied.gateway) as unseen,
        account.client(proxied.gateway) as nobody,
    ):
        assert (await known.get("/v1/me")).status_code == 200
        unseen.headers["x-api-key"] = str(stack.user_key)
        nobody.headers["x-api-key"] = "bd_00000000_nobody"
        proxied.clickhouse.reset()
        connections = proxied.clickhouse.accepts
        async with without(stack, "postgres"):
            for client in (known, unseen, nobody):
                answer = await client.post("/v1/query", json=never_asked())
                assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
            assert (await unseen.get("/v1/me")).status_code == 503
            assert (await known.get("/v1/credits")).status_code == 503
        assert proxied.clickhouse.accepts == connections  # nobody even connected
        await answered_in_the_end(known, some_key())
        assert (await nobody.get("/v1/me")).status_code == 401
    await account.settled_at(9)


async def test_when_every_backend_is_terminated_under_load_each_answer_is_charged_once(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered, proxied: Proxied
) -> None:
    """14: five times in a row; every part is well again within 10 s, and nothing is left in a transaction."""
    stop = asyncio.Event()
    async with (
        open_account(stack, admin, answered, credits=10_000) as account,
        account.client() as one,
        account.client(proxied.gateway) as other,
    ):

        async def load(client: httpx.AsyncClient) -> Counter[int]:
            seen: Counter[int] = Counter()
            while not stop.is_set():
                seen[(await client.post("/v1/query", json=never_asked())).status_code] += 1
            return seen

        loads = [asyncio.create_task(load(client)) for client in (one, other) for _ in range(4)]
        for killed in range(1, 6):
            await until("queries between the faults", partial(_charged, account, 10 * killed))
            await _terminate_all(account)
        ended = time.monotonic()
        stop.set()
        seen = sum(await asyncio.gather(*loads), Counter[int]())
        assert set(seen) <= {200, 503}
        for client in (one, other):
            await until("health", partial(_healthy, client), deadline_s=_RECOVERED_S)
            await answered_in_the_end(client, some_key(), deadline_s=_RECOVERED_S)
        assert time.monotonic() - ended < _RECOVERED_S
        await account.settled_at(10_000 - seen[200] - 2)
        assert await account.charges() == seen[200] + 2
        await until("no transaction to be left idle", partial(_none_idle, account))


async def _charged(account: Account, count: int) -> bool:
    return await account.charges() >= count


async def _healthy(client: httpx.AsyncClient) -> bool:
    return (await client.get("/v1/health")).status_code == 200


async def _none_idle(account: Account) -> bool:
    return not await account.ledger.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    )


async def _terminate_all(account: Account) -> None:
    """Whoever is connected; after the last time they may still be on their way back."""

    async def terminated() -> bool:
        return bool(
            await account.ledger.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND usename <> 'postgres'"
            )
        )

    await until("connections to terminate", terminated, deadline_s=30)


# Three of ten transactions fail where they write the accounts; a sequence forgets nothing in a rollback.
_FAIL_THREE_OF_TEN = """
    CREATE SEQUENCE credits.test_turns;
    CREATE FUNCTION credits.test_fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('credits.test_turns') % 10 < 3 THEN
            RAISE EXCEPTION 'could not serialize access' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER test_fail BEFORE UPDATE ON credits.accounts FOR EACH STATEMENT EXECUTE FUNCTION credits.test_fail();
"""
_MEND = """
    DROP TRIGGER test_fail ON credits.accounts;
    DROP FUNCTION credits.test_fail;
    DROP SEQUENCE credits.test_turns;
"""


async def test_serialization_failures_cost_nobody_a_query_or_a_second_charge(stack: Stack, account: Account) -> None:
    """17: the server itself refuses 30 % of the ledger's transactions; clients notice nothing."""
    owner = await asyncpg.connect(dsn(stack.site, "credits_owner"))
    try:
        await owner.execute(_FAIL_THREE_OF_TEN)
        try:
            async with account.client() as client:
                answers = [await client.post("/v1/query", json=never_asked(), headers=some_key()) for _ in range(10)]
                assert [answer.status_code for answer in answers] == [200] * 10
                assert (await client.post("/v1/query", json=never_asked())).status_code == 402
            await account.settled_at(0)
            assert await owner.fetchval("SELECT last_value FROM credits.test_turns") > 15
        finally:
            await owner.execute(_MEND)
    finally:
        await owner.close()
    assert await account.charges() == 10
