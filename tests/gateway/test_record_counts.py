import asyncio
from typing import cast

from common.datasets import Datasets
from common.errors import Unavailable
from gateway.record_counts import RecordCounts
from gateway.warehouse import Warehouse
from support.audit_events import StoppedClock
from support.polling import eventually


class Counting:
    """Rows of each table; waits while it is told to."""

    def __init__(self) -> None:
        self.rows = 5
        self.asked = 0
        self.down = False
        self.free = asyncio.Event()
        self.free.set()

    async def count(self, _: str) -> int:
        self.asked += 1
        await self.free.wait()
        if self.down:
            raise Unavailable
        return self.rows


def _counts(warehouse: Counting, clock: StoppedClock) -> RecordCounts:
    return RecordCounts(cast("Warehouse", warehouse), cast("Datasets", ["people", "flights"]), clock)


async def test_rows_are_counted_once_in_half_a_minute() -> None:
    warehouse, clock = Counting(), StoppedClock()
    counts = _counts(warehouse, clock)
    assert [await counts.total() for _ in range(3)] == [10, 10, 10]
    assert warehouse.asked == 2


async def test_an_old_count_is_shown_while_it_is_counted_again() -> None:
    warehouse, clock = Counting(), StoppedClock()
    counts = _counts(warehouse, clock)
    await counts.total()
    clock.seconds, warehouse.rows = 31, 6
    warehouse.free.clear()
    assert [await counts.total() for _ in range(3)] == [10, 10, 10]
    await eventually(lambda: warehouse.asked == 4)
    warehouse.free.set()
    await eventually(lambda: counts._counting is None)
    assert await counts.total() == 12


async def test_while_nobody_can_count_there_is_no_figure_and_the_next_asks_again() -> None:
    warehouse, clock = Counting(), StoppedClock()
    warehouse.down = True
    counts = _counts(warehouse, clock)
    assert await counts.total() is None
    warehouse.down = False
    assert await counts.total() == 10
