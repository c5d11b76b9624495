"""The live log: each entry once, late ones too."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from common.errors import Unavailable
from common.ids import new_id
from common.postgres import Pool
from gateway import log_tail
from gateway.log_tail import LogTail, follow
from gateway.request_log import LogFilter
from support.audit_events import NOW, StoppedClock


class Table:
    """The log, as read_log_after reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[dict[str, Any]] = []
        self.down = False
        monkeypatch.setattr(log_tail, "read_log_after", self._after)

    def add(self, *seconds: float) -> list[UUID]:
        made: list[dict[str, Any]] = [{"id": new_id(), "created_at": NOW + timedelta(seconds=one)} for one in seconds]
        self.rows += made
        return [row["id"] for row in made]

    async def _after(self, _: Pool, __: LogFilter, *, since: datetime, limit: int) -> list[dict[str, Any]]:
        if self.down:
            raise Unavailable("The request log is not available")
        found = [row for row in self.rows if row["created_at"] > since]
        return sorted(found, key=lambda row: (row["created_at"], row["id"]))[:limit]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(monkeypatch)


def tail_of() -> LogTail:
    return LogTail(cast("Pool", None), LogFilter(), NOW, StoppedClock())


async def _new(tail: LogTail) -> list[UUID]:
    return [row["id"] for row in await tail.new()]


async def test_each_entry_is_shown_once(table: Table) -> None:
    tail = tail_of()
    first = table.add(-1, 1, 2)[1:]
    assert await _new(tail) == first
    assert await _new(tail) == []
    assert await _new(tail) == []
    third = table.add(3)
    assert await _new(tail) == third


async def test_an_entry_that_comes_a_little_late_is_shown(table: Table) -> None:
    tail = tail_of()
    table.add(10)
    await tail.new()
    assert await _new(tail) == []
    late = table.add(6)
    assert await _new(tail) == late


async def test_after_an_outage_of_the_log_what_was_late_is_shown(table: Table) -> None:
    """However long it lasted: nothing newer was shown meanwhile."""
    tail = tail_of()
    table.add(1)
    await tail.new()
    for _ in range(5):
        assert await _new(tail) == []
    late = table.add(2, 300, 600)
    assert await _new(tail) == late


async def test_an_entry_from_the_future_hides_nothing(table: Table) -> None:
    """Another gateway's clock may be an hour ahead."""
    tail = tail_of()
    table.add(3600)
    await tail.new()
    after = table.add(1)
    assert await _new(tail) == after


async def test_many_at_once_are_all_shown(table: Table) -> None:
    tail = tail_of()
    many = table.add(*(number / 1000 for number in range(1, 1300)))
    assert await _new(tail) == many
    assert await _new(tail) == []


async def test_it_speaks_when_nothing_comes_and_ends_when_the_gateway_stops(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "_LOOK_S", 0.001)
    clock, stopping = StoppedClock(), asyncio.Event()
    live = follow(tail_of(), clock, stopping)
    assert await anext(live) == b"retry: 1000\n\n"
    clock.seconds = 20
    assert (await anext(live)).startswith(b": nothing new")
    table.down = True
    assert b"not available" in await anext(live)
    table.down = False
    [shown] = table.add(1)
    assert f"id: {shown}\nevent: request\ndata: ".encode() in await anext(live)
    stopping.set()
    with pytest.raises(StopAsyncIteration):
        await anext(live)


async def test_it_ends_after_some_minutes_so_that_the_key_is_asked_for_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert table.rows == []
    monkeypatch.setattr(log_tail, "_LOOK_S", 0.001)
    clock = StoppedClock()
    live = follow(tail_of(), clock, asyncio.Event())
    await anext(live)
    clock.seconds = 601
    with pytest.raises(StopAsyncIteration):
        await anext(live)
