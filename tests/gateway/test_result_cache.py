"""Answers kept in the process: as long as in Redis, and never instead of asking for another version."""

from datetime import UTC, datetime, timedelta

from gateway.result_cache import Kept, Near
from gateway.warehouse import Page

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class MovedClock:
    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return self.passed_s


def kept(data: bytes = b"[]", as_of: datetime = NOON) -> Kept:
    return Kept(Page(data, 0, 0), as_of)


def test_an_answer_is_there_for_a_minute_from_when_clickhouse_was_asked() -> None:
    clock = MovedClock()
    near = Near(clock)
    near.put("a", kept(as_of=NOON - timedelta(seconds=20)))
    clock.passed_s = 39.9
    assert near.get("a") == kept(as_of=NOON - timedelta(seconds=20))
    clock.passed_s = 40
    assert near.get("a") is None


def test_another_gateways_clock_does_not_keep_it_longer() -> None:
    clock = MovedClock()
    near = Near(clock)
    near.put("a", kept(as_of=NOON + timedelta(hours=1)))
    clock.passed_s = 60
    assert near.get("a") is None


def test_what_is_old_or_large_is_left_to_redis() -> None:
    near = Near(MovedClock())
    near.put("old", kept(as_of=NOON - timedelta(seconds=60)))
    near.put("large", kept(b"x" * 16_385))
    assert near.get("old") is None
    assert near.get("large") is None


def test_the_one_asked_for_longest_ago_goes_first() -> None:
    near = Near(MovedClock())
    for number in range(2048):
        near.put(str(number), kept())
    assert near.get("0")
    near.put("one more", kept())
    assert near.get("0")
    assert near.get("1") is None
