"""Group commit without a database: who travels with whom, who waits, and who is told what."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
import pytest_asyncio

from common.errors import Unavailable
from credits.batch import GroupCommit, open_group_commit
from credits.ledger import Outcome, Row
from support.polling import eventually

ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)


class Ledger:
    """Writes down every batch; decides when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[Row]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def apply(self, rows: Sequence[Row]) -> list[Outcome | Exception]:
        self.batches.append(list(rows))
        await self.open.wait()
        if self.fault:
            raise self.fault
        return [{"ok": True, "amount_mc": row.amount} for row in rows]


def rows(account: UUID, *amounts: int) -> list[Row]:
    return [Row(op="reserve", user_id=account, amount=amount) for amount in amounts]


def amounts(outcomes: Sequence[Outcome | Exception]) -> list[int]:
    return [one["amount_mc"] for one in outcomes if not isinstance(one, Exception)]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest_asyncio.fixture
async def commits(ledger: Ledger) -> AsyncIterator[GroupCommit]:
    made = GroupCommit(ledger.apply, batch_max=4, queue_max=10, account_max=8, deadline_s=2)
    async with open_group_commit(made):
        yield made


async def test_an_operation_that_finds_nobody_in_flight_leaves_at_once(ledger: Ledger, commits: GroupCommit) -> None:
    assert amounts(await commits.submit(rows(ONE, 1))) == [1]
    assert len(ledger.batches) == 1


async def test_what_comes_while_a_batch_is_in_flight_leaves_together(ledger: Ledger, commits: GroupCommit) -> None:
    ledger.open.clear()
    first = asyncio.create_task(commits.submit(rows(ONE, 1)))
    await eventually(lambda: ledger.batches)
    later = [asyncio.create_task(commits.submit(rows(ONE, amount))) for amount in (2, 3, 4)]
    await asyncio.sleep(0)
    ledger.open.set()
    assert [amounts(one) for one in await asyncio.gather(first, *later)] == [[1], [2], [3], [4]]
    assert [[row.amount for row in batch] for batch in ledger.batches] == [[1], [2, 3, 4]]


async def test_a_call_larger_than_a_batch_comes_back_whole_and_in_order(ledger: Ledger, commits: GroupCommit) -> None:
    assert amounts(await commits.submit(rows(ONE, 1, 2, 3, 4, 5, 6))) == [1, 2, 3, 4, 5, 6]
    assert [len(batch) for batch in ledger.batches] == [4, 2]


async def test_a_hot_account_does_not_delay_the_others(ledger: Ledger, commits: GroupCommit) -> None:
    ledger.open.clear()
    calls = [asyncio.create_task(commits.submit(rows(THREE, 0)))]
    await eventually(lambda: ledger.batches)
    calls += [asyncio.create_task(commits.submit(rows(ONE, 1, 2, 3, 4, 5)))]
    calls += [asyncio.create_task(commits.submit(rows(TWO, 6)))]
    await asyncio.sleep(0)
    ledger.open.set()
    await asyncio.gather(*calls)
    assert [row.amount for row in ledger.batches[1]] == [1, 6, 2, 3]


async def test_a_full_queue_is_refused_as_a_whole_call(ledger: Ledger, commits: GroupCommit) -> None:
    ledger.open.clear()
    waiting = [asyncio.create_task(commits.submit(rows(account, *range(5)))) for account in (ONE, TWO)]
    await eventually(lambda: ledger.batches)
    with pytest.raises(Unavailable):
        await commits.submit(rows(THREE, *range(8)))
    ledger.open.set()
    await asyncio.gather(*waiting)


async def test_one_account_cannot_fill_the_queue(ledger: Ledger, commits: GroupCommit) -> None:
    ledger.open.clear()
    running = asyncio.create_task(commits.submit(rows(TWO, 0)))
    await eventually(lambda: ledger.batches)
    with pytest.raises(Unavailable):
        await commits.submit(rows(ONE, *range(9)))
    waiting = asyncio.create_task(commits.submit(rows(ONE, *range(8))))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await commits.submit(rows(ONE, 1))
    ledger.open.set()
    await asyncio.gather(running, waiting)


async def test_a_caller_past_its_deadline_is_told_to_ask_again_and_what_was_not_sent_never_is(ledger: Ledger) -> None:
    impatient = GroupCommit(ledger.apply, batch_max=4, queue_max=10, account_max=8, deadline_s=0.05)
    async with open_group_commit(impatient):
        ledger.open.clear()
        running = asyncio.create_task(impatient.submit(rows(ONE, 1)))
        await eventually(lambda: ledger.batches)
        with pytest.raises(Unavailable):
            await impatient.submit(rows(ONE, 2))
        with pytest.raises(Unavailable):
            await running
        ledger.open.set()
        assert amounts(await impatient.submit(rows(ONE, 3))) == [3]
        assert [[row.amount for row in batch] for batch in ledger.batches] == [[1], [3]]


async def test_a_failed_batch_is_told_to_each_of_its_callers_and_the_next_one_goes_on(
    ledger: Ledger, commits: GroupCommit
) -> None:
    ledger.fault = Unavailable()
    outcomes = await asyncio.gather(*(commits.submit(rows(ONE, no)) for no in range(3)))
    assert all(one == [ledger.fault] for one in outcomes)
    ledger.fault = None
    assert amounts(await commits.submit(rows(ONE, 7))) == [7]
