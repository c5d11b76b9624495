from collections.abc import Mapping, Sequence

import pytest
from aiokafka import ConsumerRecord

from audit.entries import Entry
from audit.request_log import Place, RequestLog, Written
from audit.settings import Settings
from audit.trail import AuditTrail
from common.errors import Permanent, Transient
from support.audit_events import StoppedClock, finished, records_of

SETTINGS = Settings.model_validate({"postgres_url": "postgresql://nowhere", "kafka_brokers": "nowhere:1"})
PLACE = Place("audit.requests.v1", 0)


class PickyLog(RequestLog):
    """Keeps entries in a list; refuses those of one user name, or everything while it is down."""

    def __init__(self, refuses: str | None = None) -> None:
        self.entries: list[Entry] = []
        self.next_offsets: dict[Place, int] = {}
        self.refuses = refuses
        self.down = False

    async def write(self, entries: Sequence[Entry], next_offsets: Mapping[Place, int]) -> Written:
        if self.down:
            raise Transient("down")
        if any(entry.username == self.refuses for entry in entries):
            raise Permanent("refused")
        self.entries += entries
        self.next_offsets |= next_offsets
        return Written(len(entries), 0)


class DeadLetters:
    def __init__(self) -> None:
        self.kept: list[tuple[int, str]] = []
        self.down = False

    async def bury(self, record: ConsumerRecord, reason: str) -> None:
        if self.down:
            raise Transient("down")
        self.kept.append((record.offset, reason))


def trail_on(log: RequestLog, dead: DeadLetters) -> AuditTrail:
    return AuditTrail(log, dead.bury, StoppedClock(), SETTINGS)


async def test_poison_goes_to_the_dead_letters_and_the_next_one_goes_on() -> None:
    log, dead = PickyLog(), DeadLetters()
    await trail_on(log, dead).keep(records_of([finished(), b"{", finished()]))
    assert len(log.entries) == 2
    assert [offset for offset, _ in dead.kept] == [1]
    assert log.next_offsets == {PLACE: 3}


@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, {0, 1, 2, 3, 4, 5, 6}])
async def test_an_entry_that_the_log_refuses_does_not_take_its_batch_along(bad: set[int]) -> None:
    log, dead = PickyLog(refuses="eve"), DeadLetters()
    events = [finished(username="eve" if n in bad else "ada") for n in range(7)]
    await trail_on(log, dead).keep(records_of(events))
    assert len(log.entries) == 7 - len(bad)
    assert {offset for offset, _ in dead.kept} == bad
    assert log.next_offsets == {PLACE: 7}


async def test_while_the_log_is_down_nothing_is_a_dead_letter() -> None:
    log, dead = PickyLog(), DeadLetters()
    log.down = True
    with pytest.raises(Transient):
        await trail_on(log, dead).keep(records_of([b"{", finished()]))
    assert dead.kept == []


async def test_while_dead_letters_are_refused_the_batch_keeps_its_place() -> None:
    log, dead = PickyLog(), DeadLetters()
    dead.down = True
    with pytest.raises(Transient):
        await trail_on(log, dead).keep(records_of([b"{"]))


async def test_the_place_after_a_batch_is_known_for_each_partition() -> None:
    log = PickyLog()
    records = [*records_of([finished()] * 3, partition=1, first=5), *records_of([finished()], partition=2, first=0)]
    await trail_on(log, DeadLetters()).keep(records)
    assert log.next_offsets == {Place("audit.requests.v1", 1): 8, Place("audit.requests.v1", 2): 1}
