"""How many rows there are, kept for a moment: counting ten million of them takes longer than a page should."""

import asyncio

from common.clock import Clock
from common.datasets import Datasets
from common.errors import ClientError
from gateway.warehouse import Warehouse

_KEPT_S = 30.0


class RecordCounts:
    """The last count; one that has grown old is counted again behind the answer that shows it once more."""

    def __init__(self, warehouse: Warehouse, datasets: Datasets, clock: Clock) -> None:
        self._warehouse = warehouse
        self._datasets = datasets
        self._clock = clock
        self._counts: dict[str, int] | None = None
        self._counted_at = -_KEPT_S
        self._counting: asyncio.Task[None] | None = None

    async def total(self) -> int | None:
        counts = await self.by_dataset()
        return None if counts is None else sum(counts.values())

    async def by_dataset(self) -> dict[str, int] | None:
        """None while ClickHouse cannot say: the other figures are worth showing."""
        if self._counting is None and self._clock.monotonic() - self._counted_at >= _KEPT_S:
            self._counting = asyncio.create_task(self._count())
        if self._counts is None and self._counting is not None:
            await asyncio.shield(self._counting)
        return self._counts

    async def _count(self) -> None:
        try:
            counts = await asyncio.gather(*map(self._warehouse.count, self._datasets))
            self._counts = dict(zip(self._datasets, counts, strict=True))
            self._counted_at = self._clock.monotonic()
        except ClientError:
            self._counts = None
        finally:
            self._counting = None
