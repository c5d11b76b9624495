"""Postgres holds connections and says nothing, or has no more of them to give."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest_asyncio

from devstack.stack import Stack
from support.accounts import Account, answered_in_the_end, never_asked, some_key
from support.client import Answered, open_client
from support.polling import until
from support.proxied import Proxied, open_proxied, to_port
from support.stack import further_copy
from support.tcp_proxy import Proxy, open_proxy

# Generous for a busy machine; what never ends is what these look for.
_ENDED_S = 25
_POOL = 4  # of the gateway in conftest.py
_LISTENING = 1  # for the versions of datasets, beside the pool


@dataclass(frozen=True)
class Pair:
    """A gateway and the credits behind it, which may be stopped."""

    gateway: str
    credits: str
    ways: tuple[Proxy, Proxy]  # to Postgres

    def freeze(self) -> None:
        for way in self.ways:
            way.black_hole()

    async def thaw(self) -> None:
        """When both processes have ended: what was on its way to Postgres still arrives, and is waited for."""
        for way in self.ways:
            way.heal()

        async def delivered() -> bool:
            return not any(way.connections for way in self.ways)

        await until("the last of it to arrive", delivered)


@pytest_asyncio.fixture
async def pair(stack: Stack) -> AsyncIterator[Pair]:
    short = {"POSTGRES_STATEMENT_S": "2", "SHUTDOWN_S": "6"}
    async with open_proxy("127.0.0.1", stack.site.ports["postgres"]) as books:
        through = {"POSTGRES_URL": to_port(stack.environment("credits")["POSTGRES_URL"], books.port), **short}
        async with (
            further_copy(stack, "credits", index=8, env=through) as copy,
            open_proxied(stack, index=8, credits=copy, env=short) as proxied,
        ):
            yield Pair(proxied.gateway, copy, (proxied.postgres, books))


async def test_with_a_frozen_postgres_every_request_ends_and_so_does_the_process(
    stack: Stack, account: Account, answered: Answered, pair: Pair
) -> None:
    """15: more requests than there are connections, on every route that reads; then SIGTERM to gateway and credits.

    A reserve that reaches Postgres after its gateway gave it up holds until its deadline, and charges nothing.
    """
    async with (
        account.client(pair.gateway, timeout_s=_ENDED_S) as client,
        open_client(stack, stack.site.secrets.admin_key, answered, gateway=pair.gateway, timeout_s=_ENDED_S) as admin,
        open_client(stack, stack.user_key, answered, gateway=pair.gateway, timeout_s=_ENDED_S) as unseen,
    ):
        paths = (await admin.get("/openapi.json")).json()["paths"]
        reads = [path for path, on in paths.items() if "get" in on and "{" not in path and "tail" not in path]
        assert (await client.get("/v1/me")).status_code == 200
        pair.freeze()
        asked = [admin.get(path) for path in reads for _ in range(4)]
        asked += [one.post("/v1/query", json=never_asked()) for one in (client, unseen) for _ in range(20)]
        seen = Counter((one.status_code, one.request.url.path) for one in await asyncio.gather(*asked))
    assert {status for status, _ in seen} <= {200, 503}, seen
    assert {status for status, path in seen if path == "/v1/query"} == {503}
    for name in (pair.gateway, pair.credits):
        await stack.kill(name, signal.SIGTERM)
    for name in (pair.gateway, pair.credits):
        assert await _end_of(name, stack) == "exited with code 0"
    await pair.thaw()
    await account.let_holds_run_out()
    async with further_copy(stack, "gateway", index=8):  # sends what the spool of the first could not
        await account.settled_at(10)
    assert await account.charges() == 0


async def _end_of(name: str, stack: Stack) -> str:
    async def how() -> str:
        one = stack.status().processes[name]
        return one.detail.partition(" at ")[0] if one.state == "dead" else ""

    return await until(f"the end of {name}", how, deadline_s=_ENDED_S)


async def test_with_an_exhausted_pool_requests_are_unavailable_and_no_connection_leaks(
    stack: Stack, account: Account, answered: Answered, proxied: Proxied
) -> None:
    """16: statements that wait for a lock keep all four connections of this gateway busy, ten times over."""
    keys = (stack.site.secrets.admin_key, account.key)
    async with (
        open_client(stack, keys[0], answered, gateway=proxied.gateway) as admin,
        open_client(stack, keys[1], answered, gateway=proxied.gateway) as client,
    ):
        assert (await admin.get("/v1/admin/users")).status_code == 200
        async with account.ledger.acquire() as owner, owner.transaction():
            await owner.execute("LOCK TABLE gateway.users IN ACCESS EXCLUSIVE MODE")
            asked = [admin.get("/v1/admin/users") for _ in range(36)]
            asked += [client.post("/v1/query", json=never_asked()) for _ in range(4)]  # a key that has to be looked up
            ended = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in ended) == {503: 40}
    # Nobody waited behind the others: one statement's time for a connection, one for the statement itself.
    assert max(answer.elapsed.total_seconds() for answer in ended) < _ENDED_S
    assert proxied.postgres.connections <= _POOL + _LISTENING
    async with open_client(stack, keys[0], answered, gateway=proxied.gateway) as admin:
        after = await asyncio.gather(*(admin.get("/v1/admin/users") for _ in range(2 * _POOL)))
        assert Counter(answer.status_code for answer in after) == {200: 2 * _POOL}
    async with account.client(proxied.gateway) as client:
        await answered_in_the_end(client, some_key())
    assert proxied.postgres.connections <= _POOL + _LISTENING
    await account.settled_at(9)
