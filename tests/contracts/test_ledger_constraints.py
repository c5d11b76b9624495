"""What PostgreSQL itself refuses, whoever asks: the books stay right even when the code above them is wrong."""

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.postgres import dsn
from devstack.stack import Stack
from support.ledger import Books, assert_books_agree, capture, migrated, open_books, reserve

_TABLES = ("accounts", "holds", "entries", "receipts", "answers", "idempotency", "outbox")


@pytest_asyncio.fixture(scope="module")
async def books(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers) as books:
        yield books
        await assert_books_agree(books)


async def charged(books: Books) -> tuple[UUID, UUID, UUID]:
    """A user with a captured and an open hold."""
    user, done, running = await books.account(10), new_id(), new_id()
    await books.batch(reserve(user, 3, hold=done), reserve(user, 4, hold=running), capture(done, 3))
    return user, done, running


@pytest.mark.parametrize("table", _TABLES)
@pytest.mark.parametrize("change", ["UPDATE {} SET user_id = user_id", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_service_writes_no_table_itself(books: Books, table: str, change: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await books.pool.execute(change.format(f"credits.{table}"))


async def test_the_service_adds_no_entry_itself(books: Books) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await books.pool.execute("INSERT INTO credits.accounts (user_id, posted) VALUES (gen_random_uuid(), 1)")


@pytest.mark.parametrize(
    "change", ["UPDATE credits.entries SET amount = 1", "DELETE FROM credits.entries", "TRUNCATE credits.entries"]
)
async def test_entries_are_never_changed_not_even_by_their_owner(books: Books, change: str) -> None:
    await charged(books)
    with pytest.raises(asyncpg.RestrictViolationError):
        await books.owner.execute(change)


@pytest.mark.parametrize("state", ["open", "released", "expired", "captured"])
async def test_a_hold_closes_once(books: Books, state: str) -> None:
    _, done, _ = await charged(books)
    with pytest.raises(asyncpg.RestrictViolationError):
        await books.owner.execute("UPDATE credits.holds SET state = $2 WHERE hold_id = $1", done, state)


@pytest.mark.parametrize("which", [1, 2])
async def test_a_hold_that_is_open_or_was_charged_is_never_deleted(books: Books, which: int) -> None:
    hold = (await charged(books))[which]
    with pytest.raises(asyncpg.RestrictViolationError):
        await books.owner.execute("DELETE FROM credits.holds WHERE hold_id = $1", hold)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE credits.accounts SET posted = -1, held = 0 WHERE user_id = $1",
        "UPDATE credits.accounts SET posted = held - 1 WHERE user_id = $1",
        "UPDATE credits.accounts SET held = -1 WHERE user_id = $1",
        "UPDATE credits.accounts SET posted = 1000000000000001 WHERE user_id = $1",
        (
            "UPDATE credits.holds SET captured = amount + 1, state = 'captured', closed_at = now()"
            " WHERE user_id = $1 AND state = 'open'"
        ),
        "UPDATE credits.holds SET captured = 1 WHERE user_id = $1 AND state = 'open'",
        "UPDATE credits.holds SET state = 'released' WHERE user_id = $1 AND state = 'open'",
        "UPDATE credits.holds SET state = 'lost' WHERE user_id = $1 AND state = 'open'",
        "UPDATE credits.receipts SET credits_used = credits_held + 1 WHERE user_id = $1",
        "UPDATE credits.receipts SET state = 'released' WHERE user_id = $1",
        (
            "INSERT INTO credits.entries (entry_id, user_id, kind, amount, posted_after, created_at)"
            " VALUES (gen_random_uuid(), $1, 'capture', -1, 0, now())"
        ),
        (
            "INSERT INTO credits.entries (entry_id, user_id, kind, amount, posted_after, created_at)"
            " VALUES (gen_random_uuid(), $1, 'grant', -1, 0, now())"
        ),
        (
            "INSERT INTO credits.entries (entry_id, user_id, kind, amount, posted_after, created_at)"
            " VALUES (gen_random_uuid(), $1, 'gift', 1, 0, now())"
        ),
    ],
)
async def test_figures_that_cannot_be_true_are_refused(books: Books, change: str) -> None:
    user, _, _ = await charged(books)
    with pytest.raises(asyncpg.CheckViolationError):
        await books.owner.execute(change, user)


async def test_a_hold_is_charged_once(books: Books) -> None:
    user, done, _ = await charged(books)
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.owner.execute(
            "INSERT INTO credits.entries (entry_id, user_id, kind, amount, posted_after, hold_id, created_at)"
            " VALUES ($2, $1, 'capture', -3, 4, $2, now())",
            user,
            done,
        )


async def test_the_gateway_reads_balances_and_nothing_else(books: Books, servers: Stack) -> None:
    user, _, _ = await charged(books)
    gateway = await asyncpg.connect(dsn(servers.site, "gateway"))
    try:
        row = await gateway.fetchrow("SELECT * FROM credits.balances WHERE user_id = $1", user)
        assert row is not None
        assert dict(row) == {"user_id": user, "posted": 7, "held": 4, "available": 3}
        for table in _TABLES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await gateway.fetch(f"SELECT * FROM credits.{table}")  # noqa: S608 - a table's name
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await gateway.execute("SELECT credits.expire(1)")
    finally:
        await gateway.close()
