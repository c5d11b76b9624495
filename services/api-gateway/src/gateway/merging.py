"""Group commit at this end: while one call is in flight, the next one fills. No timer, so nothing waits when idle."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from common.errors import Unavailable

A = TypeVar("A")
B = TypeVar("B")
# Of one batch, while somebody urgent waits: a backlog of patient work must not make every urgent call a long one.
_PATIENT_BESIDE_URGENT = 64


def _one(_: object) -> int:
    return 1


class Merging(Generic[A, B]):
    """Merges concurrent calls into one. `send` answers one result per item, in order; an exception goes to all."""

    def __init__(
        self,
        send: Callable[[list[A]], Awaitable[list[B]]],
        *,
        batch_max: int,
        waiting_max: int,
        weight: Callable[[A], int] = _one,
        weight_max: int | None = None,
    ) -> None:
        self._send = send
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._weight = weight
        self._weight_max = weight_max or batch_max
        self._urgent: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._patient: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    def submit(self, item: A, *, patient: bool = False) -> "asyncio.Future[B]":
        """The item's result, later. Patient items wait for room; an urgent one is refused when the queue is full.

        Cancelling the future before its batch leaves withdraws the item.
        """
        if not patient and len(self._urgent) >= self._waiting_max:
            raise Unavailable("Too much is waiting, try again shortly")
        future: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        (self._patient if patient else self._urgent).append((item, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._drain())
        return future

    async def close(self) -> None:
        """Let what is in flight finish; what still waits is refused."""
        for _, future in (*self._urgent, *self._patient):
            if not future.done():
                future.set_exception(Unavailable("Stopping, try again shortly"))
        self._urgent.clear()
        self._patient.clear()
        if self._sender is not None:
            await self._sender

    async def _drain(self) -> None:
        try:
            while batch := self._next_batch():
                await self._send_one(batch)
        finally:
            self._sender = None

    async def _send_one(self, batch: list[tuple[A, "asyncio.Future[B]"]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
        except Exception as exc:  # noqa: BLE001 - every waiter must hear of it, whatever it is
            for _, future in batch:
                if not future.done():
                    future.set_exception(exc)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _next_batch(self) -> list[tuple[A, "asyncio.Future[B]"]]:
        batch: list[tuple[A, asyncio.Future[B]]] = []
        weight = self._take(self._urgent, batch, self._batch_max, 0)
        room = self._batch_max if not batch else min(self._batch_max, len(batch) + _PATIENT_BESIDE_URGENT)
        self._take(self._patient, batch, room, weight)
        return batch

    def _take(
        self,
        queue: "deque[tuple[A, asyncio.Future[B]]]",
        batch: list[tuple[A, "asyncio.Future[B]"]],
        count_max: int,
        weight: int,
    ) -> int:
        while queue and len(batch) < count_max:
            item, future = queue[0]
            heavier = weight + self._weight(item)
            if batch and heavier > self._weight_max:
                break
            queue.popleft()
            if not future.done():  # whoever asked may have gone
                batch.append((item, future))
                weight = heavier
        return weight
