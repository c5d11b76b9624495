"""Every figure of reconcile finds the fault it is named for. Each fault is made by the owner and rolled back."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from common.ids import new_id
from credits.reconcile import QUERIES, reconcile
from devstack.postgres import dsn
from devstack.stack import Stack
from support.ledger import Books, capture, migrated, open_books, reserve

_ENTRY = (
    "INSERT INTO credits.entries (entry_id, user_id, kind, amount, posted_after, created_at)"
    " VALUES (gen_random_uuid(), {}, 'grant', 1, 1, now())"
)
FAULTS = {
    "accounts_unlike_entries": ["UPDATE credits.accounts SET posted = posted + 1 WHERE user_id = $1"],
    "entries_without_account": [_ENTRY.format("$2") + " RETURNING $1::uuid"],
    "accounts_unlike_holds": ["UPDATE credits.accounts SET held = held + 1 WHERE user_id = $1"],
    "accounts_negative": [
        "ALTER TABLE credits.accounts DROP CONSTRAINT accounts_never_owe",
        "UPDATE credits.accounts SET held = posted + 1 WHERE user_id = $1",
    ],
    "holds_overdue": [
        "UPDATE credits.holds SET expires_at = now() - interval '1 minute' WHERE user_id = $1 AND state = 'open'"
    ],
    "captures_unlike_entries": [
        "ALTER TABLE credits.holds DISABLE TRIGGER holds_close_once",
        "UPDATE credits.holds SET captured = captured - 1 WHERE user_id = $1 AND state = 'captured'",
    ],
    "keys_captured_twice": [
        ("INSERT INTO credits.holds (hold_id, user_id, amount, state, captured, idempotency_key, request_digest,"
        " expires_at, created_at, closed_at) SELECT gen_random_uuid(), user_id, amount, state, captured,"
        " idempotency_key, request_digest, expires_at, created_at, closed_at"
        " FROM credits.holds WHERE user_id = $1 AND state = 'captured'")
    ],
    "receipts_unlike_price": ["UPDATE credits.receipts SET credits_used = credits_used - 1 WHERE user_id = $1"],
}  # fmt: skip


@pytest_asyncio.fixture(scope="module")
async def books(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers) as books:
        yield books


async def charged(books: Books) -> UUID:
    user, done = await books.account(10_000), new_id()
    await books.batch(reserve(user, 8_000, hold=done, key="k"), reserve(user, 500))
    await books.one(capture(done, 5_000))
    return user


async def make(books: Books, statements: Sequence[str], user: UUID) -> None:
    for statement in statements:
        if "$2" in statement:
            await books.owner.execute(statement, user, new_id())
        elif "$1" in statement:
            await books.owner.execute(statement, user)
        else:
            await books.owner.execute(statement)


@pytest.mark.parametrize("figure", FAULTS)
async def test_a_fault_is_found_by_its_figure(books: Books, figure: str) -> None:
    user = await charged(books)
    fault = books.owner.transaction()
    await fault.start()
    try:
        await make(books, FAULTS[figure], user)
        today = await books.owner.fetchval("SELECT now()") - timedelta(days=1)
        for since in ({}, {"since": today}):
            assert (await reconcile(books.owner, **since))[figure] == 1
    finally:
        await fault.rollback()
    assert (await reconcile(books.owner))[figure] == 0


@pytest.mark.parametrize("change", ["rows", "rows_read", "base_mc", "per_row_mc", "share"])
async def test_the_price_is_worked_out_from_every_figure_of_its_receipt(books: Books, change: str) -> None:
    user, hold = await books.account(10_000), new_id()
    await books.one(reserve(user, 8_000, hold=hold))
    ask = capture(hold, 3_335)
    ask["receipt"]["price"] = {
        "base_mc": 1_000, "per_row_mc": 10, "per_million_rows_read_mc": 2_000_000,
        "per_query_max_mc": 20_000, "share": "0.5", "rows": 100, "rows_read": 2_335,
    }  # fmt: skip
    ask["amount_mc"] = 3_335
    await books.one(ask)
    assert (await reconcile(books.owner))["receipts_unlike_price"] == 0
    fault = books.owner.transaction()
    await fault.start()
    try:
        await books.owner.execute(
            "UPDATE credits.receipts SET price = (price::jsonb || jsonb_build_object($2::text, 1))::json"
            " WHERE hold_id = $1",
            hold,
            change,
        )
        assert (await reconcile(books.owner))["receipts_unlike_price"] == 1
    finally:
        await fault.rollback()


@pytest.mark.usefixtures("books")
async def test_without_the_log_of_requests_its_figures_say_so(servers: Stack) -> None:
    """The audit service publishes audit.requests; until then two figures cannot be asked, and the others are."""
    admin = await asyncpg.connect(dsn(servers.site))
    hidden = admin.transaction()
    await hidden.start()
    try:
        await admin.execute("ALTER SCHEMA audit RENAME TO audit_hidden")
        figures = await reconcile(admin)
    finally:
        await hidden.rollback()
        await admin.close()
    assert "audit.requests" in str(figures["captures_without_audit"])
    assert set(figures) == set(QUERIES)
    assert figures["accounts_unlike_entries"] == 0
