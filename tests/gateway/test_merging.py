import asyncio

import pytest

from common.errors import Unavailable
from gateway.merging import Merging


class _Slow:
    """Answers each item's double; holds the first call until told."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = asyncio.Event()

    async def send(self, items: list[int]) -> list[int]:
        self.calls.append(items)
        await self.go.wait()
        return [item * 2 for item in items]


async def test_what_waits_while_one_call_is_in_flight_leaves_together() -> None:
    slow = _Slow()
    merging: Merging[int, int] = Merging(slow.send, batch_max=100, waiting_max=100)
    first = merging.submit(1)
    await asyncio.sleep(0)
    rest = [merging.submit(n) for n in range(2, 50)]
    slow.go.set()
    assert await first == 2
    assert await asyncio.gather(*rest) == [n * 2 for n in range(2, 50)]
    assert [len(call) for call in slow.calls] == [1, 48]


async def test_a_failure_reaches_every_waiter_of_its_call_and_nobody_else() -> None:
    fail = [True, False]

    async def send(items: list[int]) -> list[int]:
        if fail.pop(0):
            raise ValueError(items)
        return items

    merging: Merging[int, int] = Merging(send, batch_max=2, waiting_max=10)
    futures = [merging.submit(n) for n in range(4)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [True, True, False, False]


async def test_a_full_queue_refuses_urgent_items_and_takes_patient_ones() -> None:
    slow = _Slow()
    merging: Merging[int, int] = Merging(slow.send, batch_max=1, waiting_max=2)
    urgent = [merging.submit(n) for n in range(2)]
    with pytest.raises(Unavailable):
        merging.submit(3)
    patient = merging.submit(4, patient=True)
    slow.go.set()
    assert await asyncio.gather(*urgent, patient) == [0, 2, 8]


async def test_urgent_items_overtake_a_patient_backlog() -> None:
    slow = _Slow()
    merging: Merging[int, int] = Merging(slow.send, batch_max=512, waiting_max=10)
    backlog = [merging.submit(n, patient=True) for n in range(400)]
    await asyncio.sleep(0)
    backlog += [merging.submit(n, patient=True) for n in range(400)]
    urgent = merging.submit(1)
    slow.go.set()
    await urgent
    assert slow.calls[1][0] == 1
    assert len(slow.calls[1]) == 65
    await asyncio.gather(*backlog)


async def test_a_waiter_who_left_is_not_sent() -> None:
    slow = _Slow()
    merging: Merging[int, int] = Merging(slow.send, batch_max=10, waiting_max=10)
    first = merging.submit(1)
    await asyncio.sleep(0)
    gone, stays = merging.submit(2), merging.submit(3)
    gone.cancel()
    slow.go.set()
    assert [await first, await stays] == [2, 6]
    assert slow.calls == [[1], [3]]


async def test_a_batch_stays_within_its_weight() -> None:
    calls: list[int] = []

    async def send(items: list[bytes]) -> list[int]:
        calls.append(sum(map(len, items)))
        return [0] * len(items)

    merging: Merging[bytes, int] = Merging(send, batch_max=100, waiting_max=100, weight=len, weight_max=1000)
    await asyncio.gather(*(merging.submit(b"x" * 400) for _ in range(5)), merging.submit(b"y" * 5000))
    assert max(calls[:-1]) <= 1000
    assert sum(calls) == 7000
