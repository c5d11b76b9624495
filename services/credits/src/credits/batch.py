"""Group commit: what waits from all connections leaves in one transaction.

While one batch is in flight the next one fills. No timer: an operation that finds nobody in flight leaves at once.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID

from common.errors import Unavailable
from common.lifecycle import in_background
from common.logs import get_logger
from common.metrics import counter, gauge
from credits.ledger import Outcome, Row

Apply: TypeAlias = Callable[[Sequence[Row]], Awaitable[list[Outcome | Exception]]]

_log = get_logger(__name__)
_operations = counter("bigdata_credit_operations_total", "Operations decided by the ledger", "op", "result")
_queued = gauge("bigdata_credit_queue_operations", "Operations waiting for their transaction")


class _Call:
    """One caller's operations: they may leave in several batches, and come back together."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.outcomes: list[Outcome | Exception] = [{}] * len(rows)
        self.left = len(rows)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, place: int, outcome: Outcome | Exception) -> None:
        self.outcomes[place] = outcome
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class GroupCommit:
    """Fair between accounts: a batch takes one operation of each in turn, so a hot account delays nobody else."""

    def __init__(self, apply: Apply, *, batch_max: int, queue_max: int, account_max: int, deadline_s: float) -> None:
        self._apply = apply
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._account_max = account_max
        self._deadline_s = deadline_s
        self._accounts: dict[UUID | None, deque[tuple[_Call, int]]] = {}
        self._turns: deque[UUID | None] = deque()
        self._waiting = 0
        self._filled = asyncio.Event()

    async def submit(self, rows: Sequence[Row]) -> list[Outcome | Exception]:
        """One outcome per row, in order; an exception in the place of a row that failed alone.

        Raises Unavailable when the queue is full, and at the deadline: then an operation may have been decided all the
        same, and the caller asks again with the same key.
        """
        self._refuse_when_full(rows)
        call = _Call(rows)
        for place, row in enumerate(rows):
            self._enqueue(row.user_id or row.hold_id, call, place)
        self._filled.set()
        try:
            async with asyncio.timeout(self._deadline_s):
                await call.done
        except TimeoutError:
            raise Unavailable("The ledger is not answering, try again shortly") from None
        return call.outcomes

    async def run(self) -> None:
        """The one place that calls the ledger: one batch after the other, for ever."""
        while True:
            await self._filled.wait()
            batch = self._next_batch()
            if not batch:
                self._filled.clear()
                continue
            await self._commit(batch)

    def _refuse_when_full(self, rows: Sequence[Row]) -> None:
        """All or nothing: a call is never half accepted."""
        if self._waiting + len(rows) > self._queue_max:
            raise Unavailable("Too many operations are waiting, try again shortly")
        asked: dict[UUID | None, int] = {}
        for row in rows:
            account = row.user_id or row.hold_id
            asked[account] = asked.get(account, 0) + 1
        for account, count in asked.items():
            if count + len(self._accounts.get(account, ())) > self._account_max:
                raise Unavailable("Too many operations of this account are waiting, try again shortly")

    def _enqueue(self, account: UUID | None, call: _Call, place: int) -> None:
        queue = self._accounts.get(account)
        if queue is None:
            queue = self._accounts[account] = deque()
            self._turns.append(account)
        queue.append((call, place))
        self._waiting += 1

    def _next_batch(self) -> list[tuple[_Call, int]]:
        """One of each account in turn. Whoever gave up waiting is passed over: their operation was never sent."""
        batch: list[tuple[_Call, int]] = []
        while self._turns and len(batch) < self._batch_max:
            account = self._turns.popleft()
            queue = self._accounts[account]
            call, place = queue.popleft()
            self._waiting -= 1
            if queue:
                self._turns.append(account)
            else:
                del self._accounts[account]
            if not call.done.cancelled():
                batch.append((call, place))
        _queued.set(self._waiting)
        return batch

    async def _commit(self, batch: list[tuple[_Call, int]]) -> None:
        rows = [call.rows[place] for call, place in batch]
        try:
            outcomes = await self._apply(rows)
        except asyncio.CancelledError:
            raise
        except Exception as exc:  # noqa: BLE001 - every caller hears of it; the loop serves the next ones
            outcomes = [exc] * len(rows)
        for (call, place), outcome in zip(batch, outcomes, strict=True):
            call.settle(place, outcome)
        for (op, result), count in Counter(map(_label, rows, outcomes)).items():
            _operations.labels(op, result).inc(count)


def _label(row: Row, outcome: Outcome | Exception) -> tuple[str, str]:
    if isinstance(outcome, Exception):
        return row.op, "unavailable" if isinstance(outcome, Unavailable) else "failed"
    return row.op, "ok" if outcome["ok"] else outcome["code"]


@asynccontextmanager
async def open_group_commit(commits: GroupCommit) -> AsyncIterator[GroupCommit]:
    """Closed after the port: every caller has had its answer or its deadline by then."""
    async with in_background(commits.run()):
        yield commits
