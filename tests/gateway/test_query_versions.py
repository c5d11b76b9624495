import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from common.errors import Unavailable
from common.postgres import Pool
from gateway.query_versions import Freshness, Versions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return self.seconds


class Postgres:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = [{"dataset": "people", "version": 1, "fresh_at": NOW, "excluded": ["u"]}]
        self.reads = 0
        self.down = False

    async def acquire(self) -> "Postgres":
        return self

    async def release(self, _connection: object) -> None: ...

    async def fetch(self, _query: str) -> list[dict[str, Any]]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionRefusedError
        return self.rows


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def versions(postgres: Postgres, clock: Clock) -> Versions:
    return Versions(cast("Pool", postgres), clock)


async def test_what_is_known_is_asked_again_after_a_second(
    versions: Versions, postgres: Postgres, clock: Clock
) -> None:
    assert await versions.of("people") == Freshness(1, NOW, ("u",))
    assert await versions.of("others") == Freshness()
    assert postgres.reads == 1
    clock.seconds += 1.1
    postgres.rows = []
    assert (await versions.of("people")).version == 0
    assert postgres.reads == 2


async def test_everybody_who_asks_meanwhile_gets_one_read(versions: Versions, postgres: Postgres) -> None:
    await asyncio.gather(*(versions.of("people") for _ in range(20)))
    assert postgres.reads == 1


async def test_who_waited_for_a_load_gets_a_read_that_began_after_it(versions: Versions, postgres: Postgres) -> None:
    reading = asyncio.create_task(versions.refresh())
    await asyncio.sleep(0)
    await versions.refresh_now()
    await reading
    assert postgres.reads == 2


async def test_old_knowledge_is_no_knowledge(versions: Versions, postgres: Postgres, clock: Clock) -> None:
    await versions.of("people")
    postgres.down = True
    assert (await versions.of("people")).version == 1
    clock.seconds += 5
    with pytest.raises(Unavailable):
        await versions.of("people")
