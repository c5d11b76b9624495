import pytest
from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from common.progress import Progress, Stalled
from support.audit_events import StoppedClock

PLACE = TopicPartition("audit.requests.v1", 0)


class Consumer:
    def __init__(self, position: int, end: int) -> None:
        self.at, self.end = position, end

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    async def end_offsets(self, places: set[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def position(self, _: TopicPartition) -> int:
        return self.at


async def test_a_consumer_that_moves_nothing_while_records_wait_is_stalled() -> None:
    clock = StoppedClock()
    progress = Progress(clock, stalled_s=60)
    clock.seconds = 61
    await progress.look(Consumer(position=3, end=9))
    with pytest.raises(Stalled):
        await progress.check()


async def test_a_consumer_with_nothing_to_do_is_alive() -> None:
    clock = StoppedClock()
    progress = Progress(clock, stalled_s=60)
    clock.seconds = 61
    await progress.look(Consumer(position=9, end=9))
    await progress.check()


async def test_a_batch_that_was_fetched_is_progress() -> None:
    clock = StoppedClock()
    progress = Progress(clock, stalled_s=60)
    clock.seconds = 61
    progress.moved()
    await progress.check()


async def test_how_far_behind_is_the_age_of_what_is_handled_while_something_waits() -> None:
    clock = StoppedClock()
    progress = Progress(clock, stalled_s=60)
    clock.seconds = 5
    await progress.look(Consumer(position=3, end=9))
    assert _behind_s() == 5  # nothing was handled since the start
    progress.moved(sent_ms=int(clock.time.timestamp() * 1000) - 7000)
    await progress.look(Consumer(position=3, end=9))
    assert _behind_s() == 7
    await progress.look(Consumer(position=9, end=9))
    assert _behind_s() == 0


def _behind_s() -> float | None:
    return REGISTRY.get_sample_value("bigdata_consumer_behind_seconds", {"topic": PLACE.topic})
