"""The ledger under contention: several replicas, one account, and deaths at the worst moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from common.errors import Unavailable
from common.ids import new_id
from credits.expiry import expire_holds
from devstack.postgres import dsn
from devstack.stack import Stack
from support.ledger import (
    Books,
    assert_books_agree,
    capture,
    dice,
    grant,
    migrated,
    open_books,
    release,
    reserve,
    rows_of,
    together,
)


@pytest_asyncio.fixture(scope="module")
async def replicas(servers: Stack) -> AsyncIterator[list[Books]]:
    """Three, with batches small enough that a test makes many."""
    await migrated(servers)
    async with AsyncExitStack() as closing:
        yield [
            await closing.enter_async_context(open_books(servers, batch_operations_max=32, operation_s=10))
            for _ in range(3)
        ]


@pytest_asyncio.fixture
async def books_of_their_own(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers) as books:
        yield books


@pytest_asyncio.fixture(autouse=True)
async def _agreement(replicas: list[Books]) -> AsyncIterator[None]:
    yield
    await assert_books_agree(replicas[0])


async def test_of_200_concurrent_reserves_on_a_balance_of_10_exactly_10_succeed(replicas: list[Books]) -> None:
    user = await replicas[0].account(10)
    outcomes = await together(replicas, [reserve(user, 1) for _ in range(200)])
    assert Counter(one.get("code", "ok") for one in outcomes) == {"ok": 10, "insufficient_credits": 190}
    assert await replicas[0].balance(user) == (10, 10)


async def test_50_concurrent_reserves_with_one_key_open_one_hold(replicas: list[Books]) -> None:
    user = await replicas[0].account(1000)
    outcomes = await together(replicas, [reserve(user, 3, key="k") for _ in range(50)])
    assert all(one["ok"] for one in outcomes)
    assert len({one["hold_id"] for one in outcomes}) == 1
    assert sum("replayed" not in one for one in outcomes) == 1
    held = await replicas[0].owner.fetchval(
        "SELECT count(*) FROM credits.holds WHERE hold_id = $1", UUID(outcomes[0]["hold_id"])
    )
    assert (held, await replicas[0].balance(user)) == (1, (1000, 3))


async def test_one_key_from_two_replicas_at_once_fails_no_neighbour(replicas: list[Books]) -> None:
    user = await replicas[0].account(10_000)
    for turn in range(30):
        key = f"shared-{turn}"
        batches = [[*(reserve(user, 1) for _ in range(5)), reserve(user, 1, key=key)] for _ in range(2)]
        answers = await asyncio.gather(*(books.batch(*batch) for books, batch in zip(replicas, batches, strict=False)))
        assert all(one["ok"] for answer in answers for one in answer)
        assert answers[0][-1]["hold_id"] == answers[1][-1]["hold_id"]
        assert sum("replayed" in answer[-1] for answer in answers) == 1


async def test_concurrent_grants_with_one_key_are_one_grant(replicas: list[Books]) -> None:
    user = await replicas[0].account(0)
    outcomes = await together(replicas, [grant(user, 7, key="g") for _ in range(30)])
    assert len({one["entry_id"] for one in outcomes}) == 1
    assert await replicas[0].balance(user) == (7, 0)


async def test_batches_over_the_same_accounts_in_any_order_do_not_deadlock(replicas: list[Books]) -> None:
    users = [await replicas[0].account(100_000) for _ in range(8)]
    shuffled = dice()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await replicas[0].owner.fetchval(deadlocks)

    async def many(books: Books) -> None:
        for _ in range(40):
            order = shuffled.sample(users, len(users))
            assert all(one["ok"] for one in await books.batch(*(reserve(user, 1) for user in order)))

    await asyncio.gather(*(many(books) for books in replicas), *(many(books) for books in replicas))
    assert await replicas[0].owner.fetchval(deadlocks) == before
    assert {await replicas[0].balance(user) for user in users} == {(100_000, 240)}


async def test_capture_release_and_expiry_race_and_exactly_one_wins(replicas: list[Books]) -> None:
    """8."""
    user = await replicas[0].account(10_000)
    winners: Counter[str] = Counter()
    for _ in range(20):
        holds = [new_id() for _ in range(50)]
        await replicas[0].batch(*(reserve(user, 5, hold=hold) for hold in holds))
        # Due now or in a moment: expiry runs among the others.
        await replicas[0].owner.execute(
            "UPDATE credits.holds SET expires_at = clock_timestamp() + random() * interval '20 ms'"
            " WHERE hold_id = ANY ($1)",
            holds,
        )
        races = [ask for hold in holds for ask in (capture(hold, 2), release(hold))]
        dice().shuffle(races)
        sweeps = (expire_holds(books.pool, books.settings) for books in replicas)
        racing = asyncio.create_task(together(replicas, races))
        await asyncio.gather(*sweeps)
        outcomes = await racing
        for hold in holds:
            said = [(one["state"], one["ok"]) for one in outcomes if one["hold_id"] == str(hold)]
            state = await replicas[0].owner.fetchval("SELECT state FROM credits.holds WHERE hold_id = $1", hold)
            winners[state] += 1
            assert sum(ok for _, ok in said) == (state != "expired")
            assert {told for told, _ in said} == {state}
    assert sum(winners.values()) == 1000
    captured = winners["captured"]
    assert await replicas[0].balance(user) == (10_000 - 2 * captured, 0)
    assert await replicas[0].count("entries", user) == 1 + captured


async def test_what_a_cut_connection_leaves_unknown_a_retry_with_the_key_settles_once(
    servers: Stack, replicas: list[Books]
) -> None:
    """The server ends the ledger's connections again and again while charges run: entries = keys that say done."""
    user = await replicas[0].account(100_000)
    admin = await asyncpg.connect(dsn(servers.site))
    stop, chance = asyncio.Event(), dice()

    async def cut() -> None:
        while not stop.is_set():
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'credits ledger'"
            )
            await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def charge(books: Books, key: str) -> None:
        while True:
            try:
                hold = (await books.one(reserve(user, 3, key=key)))["hold_id"]
                assert (await books.one(capture(hold, 3)))["state"] == "captured"
            except Unavailable:
                continue
            return

    cutting = asyncio.create_task(cut())
    try:
        for turn in range(20):
            await asyncio.gather(*(charge(replicas[no % 3], f"{turn}-{no}") for no in range(20)))
    finally:
        stop.set()
        await cutting
        await admin.close()
    assert await replicas[0].balance(user) == (100_000 - 1200, 0)
    assert await replicas[0].count("holds", user) == 400


async def test_a_caller_cancelled_around_commit_loses_nothing_and_pays_once(servers: Stack) -> None:
    delays = dice()
    async with open_books(servers) as books:
        user = await books.account(100_000)
        for no in range(900):
            ask = reserve(user, 3, key=f"cancelled-{no}")
            try:
                async with asyncio.timeout(delays.uniform(0, 0.006)):
                    await books.one(ask)
            except TimeoutError:
                pass
        for no in range(900):
            hold = (await books.one(reserve(user, 3, key=f"cancelled-{no}")))["hold_id"]
            await books.one(capture(hold, 3))
        assert await books.balance(user) == (100_000 - 2700, 0)
        assert await books.count("holds", user) == 900
        assert await books.count("entries", user) == 901


async def test_a_replica_whose_batch_is_cancelled_in_flight_goes_on_with_the_next(servers: Stack) -> None:
    """The transaction itself cancelled at random points: the connection is dropped, the outcome read back by key."""
    delays = dice()
    async with open_books(servers) as books:
        user = await books.account(100_000)
        for no in range(100):
            rows = rows_of(reserve(user, 3, key=f"dropped-{no}"))
            try:
                async with asyncio.timeout(delays.uniform(0, 0.02)):
                    await books.ledger.apply(rows)
            except (TimeoutError, Unavailable):
                pass
            hold = (await books.one(reserve(user, 3, key=f"dropped-{no}")))["hold_id"]
            await books.one(capture(hold, 3))
        assert await books.balance(user) == (100_000 - 300, 0)
        assert await books.count("holds", user) == 100


async def test_serialization_failures_are_tried_again(replicas: list[Books], monkeypatch: pytest.MonkeyPatch) -> None:
    books = replicas[0]
    user = await books.account(1000)
    real, chance = books.ledger._once, dice()

    async def sometimes(rows: object) -> object:
        if chance.random() < 0.3:
            raise asyncpg.SerializationError
        return await real(rows)  # type: ignore[arg-type]

    monkeypatch.setattr(books.ledger, "_once", sometimes)
    for _ in range(100):
        assert (await books.one(reserve(user, 1)))["ok"]
    assert await books.balance(user) == (1000, 100)


async def test_a_locked_account_delays_nobody_else_for_long(servers: Stack) -> None:
    async with open_books(servers, operation_s=2.5) as books:
        stuck, *others = [await books.account(10) for _ in range(8)]
        async with books.owner.transaction():
            await books.owner.execute("SELECT FROM credits.accounts WHERE user_id = $1 FOR UPDATE", stuck)
            asks = [reserve(user, 1) for user in (*others, stuck)]
            outcomes = await books.ledger.apply(rows_of(*asks))
            assert [isinstance(one, Exception) for one in outcomes] == [False] * 7 + [True]
            assert isinstance(outcomes[-1], Unavailable)
        assert (await books.one(reserve(stuck, 1)))["ok"]


async def test_a_database_that_became_read_only_is_an_outage_and_not_a_refusal(books_of_their_own: Books) -> None:
    books = books_of_their_own
    user = await books.account(10)
    connection = books.ledger._connection
    assert connection is not None
    await connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(Unavailable):
        await books.one(reserve(user, 1))
    # The next batch has a fresh connection, as it would find the new primary.
    assert (await books.one(reserve(user, 1)))["ok"]
