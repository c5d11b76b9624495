"""What each operation does to the books, on a real PostgreSQL, and what it refuses without changing anything."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from common.errors import InvalidRequest, NotFound
from common.ids import new_id
from credits.expiry import expire_holds, purge_old
from credits.receipts import read_answer, read_receipt
from credits.statement import read_balance, read_statement
from devstack.stack import Stack
from support.ledger import (
    OTHER_DIGEST,
    Books,
    assert_books_agree,
    capture,
    extend,
    grant,
    migrated,
    open_account,
    open_books,
    refund,
    release,
    reserve,
    rows_of,
    set_balance,
)

MOST_MC = 10**15


@pytest_asyncio.fixture(scope="module")
async def shared(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers) as books:
        yield books


@pytest_asyncio.fixture
async def books(shared: Books) -> AsyncIterator[Books]:
    yield shared
    await assert_books_agree(shared)


async def make_overdue(books: Books, hold: UUID | str) -> None:
    """As if its time had passed: database time itself cannot be moved."""
    await books.owner.execute(
        "UPDATE credits.holds SET expires_at = now() - interval '1 second' WHERE hold_id = $1", UUID(str(hold))
    )


async def test_a_reserve_holds_its_amount_and_a_capture_posts_what_was_used(books: Books) -> None:
    user = await books.account(10_000)
    hold = new_id()
    held = await books.one(reserve(user, 8_000, hold=hold))
    assert held == {
        "ok": True, "hold_id": str(hold), "state": "open",
        "amount_mc": 8_000, "posted_mc": 10_000, "available_mc": 2_000,
    }  # fmt: skip
    captured = await books.one(capture(hold, 5_000))
    assert captured["state"] == "captured"
    assert (captured["posted_mc"], captured["available_mc"]) == (5_000, 5_000)
    assert await books.balance(user) == (5_000, 0)


async def test_decisions_are_taken_one_after_the_other_in_arrival_order(books: Books) -> None:
    user = await books.account(10)
    outcomes = await books.batch(reserve(user, 8), reserve(user, 5), reserve(user, 2))
    assert [one["ok"] for one in outcomes] == [True, False, True]
    refused = outcomes[1]
    assert refused["code"] == "insufficient_credits"
    assert (refused["available_mc"], refused["needed_mc"]) == (2, 5)


async def test_a_batch_may_reserve_and_capture_and_reserve_what_came_free(books: Books) -> None:
    user = await books.account(10)
    first, second = new_id(), new_id()
    outcomes = await books.batch(
        reserve(user, 10, hold=first), {**capture(first, 4), "user_id": user}, reserve(user, 6, hold=second)
    )
    assert [one["ok"] for one in outcomes] == [True, True, True]
    assert await books.balance(user) == (6, 6)


async def test_a_hold_of_nothing_and_a_capture_of_nothing_leave_no_entry(books: Books) -> None:
    user = await books.account(0)
    hold = new_id()
    assert (await books.one(reserve(user, 0, hold=hold)))["ok"]
    assert (await books.one(capture(hold, 0)))["state"] == "captured"
    assert await books.count("entries", user) == 0


async def test_a_retry_with_its_own_hold_gets_the_same_outcome(books: Books) -> None:
    user = await books.account(10)
    ask = reserve(user, 8)
    first, again = await books.one(ask), await books.one(ask)
    assert again == first | {"replayed": True}
    assert await books.balance(user) == (10, 8)


async def test_a_repeated_key_names_the_hold_of_the_first_request(books: Books) -> None:
    user = await books.account(10)
    first = await books.one(reserve(user, 4, key="k"))
    again = await books.one(reserve(user, 4, key="k"))
    assert again == first | {"replayed": True}
    assert await books.count("holds", user) == 1


async def test_a_repeated_key_in_the_same_batch_names_the_hold_of_the_first(books: Books) -> None:
    user = await books.account(10)
    first, again = await books.batch(reserve(user, 4, key="k"), reserve(user, 4, key="k"))
    assert again == first | {"replayed": True}


async def test_a_key_with_another_request_is_a_mismatch(books: Books) -> None:
    user = await books.account(10)
    await books.one(reserve(user, 4, key="k"))
    refused = await books.one(reserve(user, 4, key="k", digest=OTHER_DIGEST))
    assert refused["code"] == "idempotency_mismatch"
    assert (await books.one(grant(user, 1, key="k")))["code"] == "idempotency_mismatch"


async def test_keys_belong_to_their_user(books: Books) -> None:
    one, other = await books.account(10), await books.account(10)
    outcomes = await books.batch(reserve(one, 4, key="k"), reserve(other, 4, key="k"))
    assert all(outcome["ok"] and "replayed" not in outcome for outcome in outcomes)


async def test_a_refusal_is_not_remembered_so_the_key_may_succeed_later(books: Books) -> None:
    user = await books.account(1)
    assert not (await books.one(reserve(user, 4, key="k")))["ok"]
    await books.one(grant(user, 10))
    assert (await books.one(reserve(user, 4, key="k")))["state"] == "open"


@pytest.mark.parametrize("end", ["release", "expiry"])
async def test_a_key_whose_hold_came_to_nothing_opens_a_new_one(books: Books, end: str) -> None:
    user = await books.account(10)
    first = (await books.one(reserve(user, 4, key="k")))["hold_id"]
    if end == "release":
        await books.one(release(first))
    else:
        await make_overdue(books, first)
    second = await books.one(reserve(user, 4, key="k"))
    assert second["hold_id"] != first
    assert "replayed" not in second
    await books.one(capture(second["hold_id"], 4))
    third = await books.one(reserve(user, 4, key="k"))
    assert (third["hold_id"], third["state"]) == (second["hold_id"], "captured")


async def test_a_key_is_forgotten_after_a_day_even_before_the_purge(books: Books) -> None:
    user = await books.account(10)
    first = await books.one(reserve(user, 4, key="k"))
    await books.one(capture(first["hold_id"], 4))
    await books.owner.execute(
        "UPDATE credits.idempotency SET created_at = now() - interval '25 hours' WHERE user_id = $1", user
    )
    await books.owner.execute("ALTER TABLE credits.holds DISABLE TRIGGER holds_close_once")
    await books.owner.execute(
        "UPDATE credits.holds SET created_at = now() - interval '25 hours' WHERE user_id = $1", user
    )
    await books.owner.execute("ALTER TABLE credits.holds ENABLE TRIGGER holds_close_once")
    second = await books.one(reserve(user, 4, key="k", digest=OTHER_DIGEST))
    assert second["hold_id"] != first["hold_id"]


async def test_another_users_hold_id_is_refused(books: Books) -> None:
    one, other = await books.account(10), await books.account(10)
    hold = new_id()
    await books.one(reserve(one, 4, hold=hold))
    assert (await books.one(reserve(other, 4, hold=hold)))["code"] == "idempotency_mismatch"
    assert (await books.one({**capture(hold, 4), "user_id": other}))["code"] == "unknown_hold"
    assert await books.balance(other) == (10, 0)


async def test_a_repeated_capture_is_the_same_capture(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    await books.one(capture(hold, 5))
    again, different, released = await books.batch(capture(hold, 5), capture(hold, 4), release(hold))
    assert again["replayed"]
    assert (different["code"], different["state"]) == ("hold_closed", "captured")
    assert released["code"] == "hold_closed"
    assert await books.count("entries", user) == 2


async def test_capturing_more_than_was_held_is_refused_and_the_hold_stays_open(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 4)))["hold_id"]
    refused = await books.one(capture(hold, 5))
    assert (refused["code"], refused["state"]) == ("capture_exceeds_hold", "open")
    assert await books.balance(user) == (10, 4)


async def test_a_released_hold_gives_everything_back_and_may_be_released_again(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    assert (await books.one(release(hold)))["state"] == "released"
    assert (await books.one(release(hold)))["replayed"]
    assert (await books.one(capture(hold, 1)))["code"] == "hold_closed"
    assert await books.balance(user) == (10, 0)


async def test_an_extended_hold_outlives_its_first_deadline(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8, ttl_s=1)))["hold_id"]
    before = await books.owner.fetchval("SELECT expires_at FROM credits.holds WHERE hold_id = $1", UUID(hold))
    assert (await books.one(extend(hold, 600)))["ok"]
    after = await books.owner.fetchval("SELECT expires_at FROM credits.holds WHERE hold_id = $1", UUID(hold))
    assert after - before > timedelta(seconds=590)
    assert (await books.one(extend(hold, 1)))["ok"]
    assert await books.owner.fetchval("SELECT expires_at FROM credits.holds WHERE hold_id = $1", UUID(hold)) == after


async def test_past_its_deadline_a_hold_has_ended_even_before_the_sweep(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    await make_overdue(books, hold)
    refused = await books.batch(capture(hold, 8), release(hold), extend(hold, 10))
    assert [(one["code"], one["state"]) for one in refused] == [("hold_closed", "expired")] * 3
    assert await books.balance(user) == (10, 0)


async def test_the_sweep_closes_overdue_holds_and_no_others(books: Books) -> None:
    user = await books.account(10)
    overdue, alive = [(await books.one(reserve(user, 3)))["hold_id"] for _ in range(2)]
    await make_overdue(books, overdue)
    await asyncio.gather(*(expire_holds(books.pool, books.settings) for _ in range(4)))
    assert await books.balance(user) == (10, 3)
    assert (await books.one(capture(alive, 3)))["ok"]


async def test_holds_and_users_that_do_not_exist_are_unknown(books: Books) -> None:
    nobody = new_id()
    outcomes = await books.batch(
        reserve(nobody, 1), grant(nobody, 1), set_balance(nobody, 1), capture(nobody, 1), release(nobody),
        extend(nobody, 1), refund(nobody, 1),
    )  # fmt: skip
    codes = [one["code"] for one in outcomes]
    assert codes == ["unknown_user"] * 3 + ["unknown_hold"] * 3 + ["unknown_entry"]


async def test_opening_an_account_again_keeps_its_balance_and_takes_the_new_threshold(books: Books) -> None:
    user = await books.account(10)
    again = await books.one(open_account(user, low_balance_mc=3))
    assert (again["ok"], again["replayed"], again["posted_mc"]) == (True, True, 10)
    assert await books.owner.fetchval("SELECT low_balance FROM credits.accounts WHERE user_id = $1", user) == 3


async def test_opening_and_granting_are_one_call(books: Books) -> None:
    user = new_id()
    opened, granted = await books.batch(open_account(user), grant(user, 5))
    assert opened["ok"]
    assert granted["posted_mc"] == 5


async def test_a_repeated_grant_is_one_grant_with_its_first_answer(books: Books) -> None:
    user = await books.account(0)
    first = await books.one(grant(user, 5, key="g"))
    await books.one(grant(user, 100))
    assert await books.one(grant(user, 5, key="g")) == first | {"replayed": True}
    assert (await books.one(grant(user, 6, key="g")))["code"] == "idempotency_mismatch"
    assert await books.balance(user) == (105, 0)


async def test_a_balance_is_set_by_an_adjustment_in_either_direction(books: Books) -> None:
    user = await books.account(10)
    assert (await books.one(set_balance(user, 3)))["posted_mc"] == 3
    assert (await books.one(set_balance(user, 30)))["posted_mc"] == 30
    same = await books.one(set_balance(user, 30))
    assert same["ok"]
    assert "entry_id" not in same
    kinds = await books.owner.fetch("SELECT kind, amount FROM credits.entries WHERE user_id = $1 ORDER BY seq", user)
    assert [tuple(row) for row in kinds] == [("grant", 10), ("adjustment", -7), ("adjustment", 27)]


async def test_a_balance_cannot_be_set_below_what_is_held_or_beyond_what_fits(books: Books) -> None:
    user = await books.account(10)
    await books.one(reserve(user, 6))
    assert (await books.one(set_balance(user, 5)))["code"] == "amount_out_of_range"
    assert (await books.one(grant(user, MOST_MC)))["code"] == "amount_out_of_range"
    assert await books.balance(user) == (10, 6)


async def test_refunds_of_a_capture_never_exceed_it(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    entry = (await books.one(capture(hold, 8)))["entry_id"]
    first = await books.one(refund(entry, 5, key="r"))
    again, too_much, rest = await books.batch(refund(entry, 5, key="r"), refund(entry, 4), refund(entry, 3))
    assert again == first | {"replayed": True}
    assert too_much["code"] == "refund_exceeds_capture"
    assert rest["posted_mc"] == 10
    assert await books.balance(user) == (10, 0)


async def test_only_captures_are_refunded(books: Books) -> None:
    user = new_id()
    _, granted = await books.batch(open_account(user), grant(user, 5))
    assert (await books.one(refund(granted["entry_id"], 1)))["code"] == "unknown_entry"


@pytest.mark.parametrize(
    "change",
    [{"amount_mc": -1}, {"amount_mc": 0.5}, {"amount_mc": MOST_MC + 1}, {"amount_mc": "5"}, {"amount_mc": True},
     {"ttl_s": 0}, {"digest": "x"}, {"key": ""}, {"key": "a\x00b"}, {"key": "k" * 256}, {"cost": 0}, {"user_id": "me"}],
)  # fmt: skip
async def test_a_malformed_operation_refuses_its_call_and_changes_nothing(books: Books, change: dict[str, Any]) -> None:
    user = await books.account(10)
    with pytest.raises(InvalidRequest):
        await books.batch(reserve(user, 1), {**reserve(user, 1), **change})
    assert await books.balance(user) == (10, 0)


async def test_a_grant_of_nothing_is_refused(books: Books) -> None:
    with pytest.raises(InvalidRequest):
        await books.one(grant(new_id(), 0))


async def test_one_operation_that_the_database_refuses_fails_alone(books: Books) -> None:
    user, other = await books.account(10), await books.account(10)
    good, bad = new_id(), new_id()
    await books.batch(reserve(user, 4, hold=good), reserve(other, 4, hold=bad))
    # No call can bring this about; it stands for any fault of ours.
    rows = rows_of(capture(good, 3), {**capture(bad, 4), "user_id": other}, reserve(user, 1))
    rows[1] = rows[1]._replace(price="{broken")
    outcomes = await books.commits.submit(rows)
    assert [isinstance(one, Exception) or one["ok"] for one in outcomes] == [True, True, True]
    assert isinstance(outcomes[1], Exception)
    assert await books.balance(other) == (10, 4)
    await books.batch(release(bad))


async def test_the_balance_is_read_without_its_service(books: Books) -> None:
    user = await books.account(10, low_balance_mc=2)
    await books.one(reserve(user, 4))
    assert await read_balance(books.reader, user) == {
        "user_id": user, "posted_mc": 10, "held_mc": 4, "available_mc": 6, "low_balance_mc": 2
    }  # fmt: skip
    with pytest.raises(NotFound):
        await read_balance(books.reader, new_id())


async def test_the_statement_pages_through_every_entry_once_newest_first(books: Books) -> None:
    user = new_id()
    await books.batch(open_account(user), *(grant(user, amount) for amount in range(1, 8)))
    seen: list[int] = []
    cursor: int | None = None
    while True:
        page, cursor = await read_statement(books.reader, user, before=cursor, limit=3)
        seen += [entry["amount_mc"] for entry in page]
        await books.one(grant(user, 100))
        if cursor is None:
            break
    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_a_receipt_says_what_a_query_cost_and_belongs_to_its_user(books: Books) -> None:
    user = await books.account(10_000)
    hold = new_id()
    await books.one(reserve(user, 8_000, hold=hold))
    assert (await read_receipt(books.reader, hold, user))["state"] == "open"
    await books.one(capture(hold, 5_000))
    receipt = await read_receipt(books.reader, hold, user)
    assert (receipt["state"], receipt["credits_held_mc"], receipt["credits_used_mc"]) == ("captured", 8_000, 5_000)
    assert (receipt["rows"], receipt["dataset"]) == (7, "people")
    with pytest.raises(NotFound):
        await read_receipt(books.reader, hold, new_id())


async def test_a_released_query_has_a_receipt_with_the_reason(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    await books.one(release(hold, "query_timeout", receipt=True))
    receipt = await read_receipt(books.reader, UUID(hold), user)
    assert (receipt["state"], receipt["credits_used_mc"]) == ("released", 0)
    assert receipt["refund_reason"] == "query_timeout"


async def test_a_query_whose_hold_ran_out_cost_nothing_and_says_so(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8)))["hold_id"]
    await make_overdue(books, hold)
    receipt = await read_receipt(books.reader, UUID(hold), user)
    assert (receipt["state"], receipt["credits_used_mc"]) == ("expired", 0)
    await expire_holds(books.pool, books.settings)


async def test_a_stored_answer_comes_back_byte_for_byte(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8, key="k")))["hold_id"]
    assert (await read_answer(books.reader, user, "k"))["state"] == "open"
    body = bytes(range(256)) * 16
    answer = {"status": 200, "headers": {"content-type": "x"}, "body_base64": base64.b64encode(body).decode()}
    await books.one(capture(hold, 8, answer=answer))
    found = await read_answer(books.reader, user, "k")
    assert (found["state"], found["answer"]) == ("captured", answer)
    assert found["receipt"]["credits_used_mc"] == 8
    with pytest.raises(NotFound):
        await read_answer(books.reader, user, "another")


async def test_an_answer_too_large_to_keep_is_charged_and_leaves_its_receipt(books: Books) -> None:
    user = await books.account(10)
    hold = (await books.one(reserve(user, 8, key="k")))["hold_id"]
    body = base64.b64encode(b"x" * ((1 << 20) + 1)).decode()
    assert (await books.one(capture(hold, 8, answer={"status": 200, "headers": {}, "body_base64": body})))["ok"]
    found = await read_answer(books.reader, user, "k")
    assert found["answer"] is None
    assert found["receipt"]["state"] == "captured"


async def test_the_purge_forgets_keys_and_answers_of_yesterday_and_old_receipts(books: Books) -> None:
    user = await books.account(10)
    answer = {"status": 200, "headers": {}, "body_base64": "eA=="}
    kept, gone = [(await books.one(reserve(user, 3, key=key)))["hold_id"] for key in ("kept", "gone")]
    nothing = (await books.one(reserve(user, 3)))["hold_id"]
    await books.batch(capture(kept, 3, answer=answer), capture(gone, 3, answer=answer), release(nothing, receipt=True))
    for table in ("idempotency", "answers"):
        age = f"UPDATE credits.{table} SET created_at = now() - interval '25 hours' WHERE hold_id = $1"  # noqa: S608 - a table's name
        await books.owner.execute(age, UUID(gone))
    await books.owner.execute(
        "UPDATE credits.receipts SET created_at = now() - interval '31 days' WHERE hold_id = $1", UUID(nothing)
    )
    await purge_old(books.pool, books.settings)
    assert (await read_answer(books.reader, user, "kept"))["answer"] == answer
    with pytest.raises(NotFound):
        await read_answer(books.reader, user, "gone")
    assert await books.count("receipts", user) == 2
    assert await books.balance(user) == (4, 0)
