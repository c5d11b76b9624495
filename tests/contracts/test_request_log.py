"""The log of requests on a real PostgreSQL: what is written once stays once, and the rollups are its sums."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import quantiles
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord

from audit.daily_usage import NOBODY
from audit.entries import Entry, Window, read_entry
from audit.request_log import Place, RequestLog, Written
from audit.retention import Days
from audit.settings import Settings
from audit.trail import AuditTrail
from common.errors import Permanent, Transient
from common.events import RequestFinished
from common.migrations import migrate
from common.postgres import Pool, open_postgres
from devstack.postgres import dsn
from devstack.stack import Stack
from support.audit_events import NOW, StoppedClock, finished, records_of, some_finished

PLACE = Place("audit.requests.v1", 0)
WINDOW = Window.around(NOW, retention_days=400, future_max_s=86_400)


@dataclass
class Book:
    """The log as the service has it, the time it believes in, and the owner's connection for looking from outside."""

    settings: Settings
    pool: Pool
    owner: "asyncpg.Connection[asyncpg.Record]"
    clock: StoppedClock
    days: Days
    log: RequestLog
    dead: list[tuple[ConsumerRecord, str]]
    trail: AuditTrail


@pytest_asyncio.fixture(scope="session")
async def settings(servers: Stack) -> Settings:
    made = Settings.model_validate(
        {
            "postgres_url": dsn(servers.site, "audit"),
            "migrate_postgres_url": dsn(servers.site, "audit_owner"),
            "kafka_brokers": "nowhere:1",
        }
    )
    await migrate(made, "audit", "audit")
    return made


@pytest_asyncio.fixture
async def book(settings: Settings) -> AsyncIterator[Book]:
    assert settings.migrate_postgres_url is not None
    async with AsyncExitStack() as closing:
        owner = await asyncpg.connect(settings.migrate_postgres_url.get_secret_value())
        closing.push_async_callback(owner.close)
        for row in await owner.fetch(
            "SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = 'audit.request_log'::regclass"
        ):
            await owner.execute(f"DROP TABLE {row['leaf']}")
        await owner.execute("TRUNCATE audit.daily_usage, audit.daily_totals, audit.consumer_offsets")
        pool = await closing.enter_async_context(open_postgres(settings))
        clock = StoppedClock()
        days = Days(pool, clock, settings)
        log = RequestLog(pool, days)
        dead: list[tuple[ConsumerRecord, str]] = []

        async def bury(record: ConsumerRecord, reason: str) -> None:
            dead.append((record, reason))

        yield Book(settings, pool, owner, clock, days, log, dead, AuditTrail(log, bury, clock, settings))


def entries_of(events: list[RequestFinished]) -> list[Entry]:
    return [read_entry(event.encoded(), WINDOW) for event in events]


async def counted(book: Book) -> int:
    count: int = await book.owner.fetchval("SELECT count(*) FROM audit.requests")
    return count


async def assert_rollups_equal_a_recount(book: Book) -> None:
    recount = """
        SELECT coalesce(user_id, $1) AS user_id, (created_at AT TIME ZONE 'UTC')::date AS day, endpoint,
               count(*) AS requests, count(*) FILTER (WHERE status >= 400) AS errors, sum(rows) AS rows,
               sum(credits_used_mc) AS credits_used_mc
          FROM audit.requests GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""
    rollup = "SELECT * FROM audit.usage_by_endpoint ORDER BY user_id, day, endpoint"
    assert await book.owner.fetch(rollup) == await book.owner.fetch(recount, NOBODY)
    days = """
        SELECT day, sum(requests) AS requests, sum(errors), sum(rows), sum(credits_used_mc)
          FROM {} GROUP BY day ORDER BY day"""
    totals = await book.owner.fetch(days.format("audit.totals_by_day"))
    assert totals == await book.owner.fetch(days.format("audit.usage_by_day"))
    assert [row["requests"] for row in totals] == [
        sum(row["latency"]) for row in await book.owner.fetch("SELECT latency FROM audit.latency_by_day ORDER BY day")
    ]


async def test_a_batch_written_twice_is_in_the_log_once(book: Book) -> None:
    entries = entries_of(some_finished(200, seed=1))
    assert await book.log.write(entries, {PLACE: 200}) == Written(200, 0)
    assert await book.log.write(entries, {PLACE: 200}) == Written(0, 200)
    assert await counted(book) == 200
    await assert_rollups_equal_a_recount(book)


async def test_of_overlapping_batches_only_the_new_entries_count(book: Book) -> None:
    entries = entries_of(some_finished(300, seed=2))
    await book.log.write(entries[:200], {PLACE: 200})
    assert await book.log.write(entries[100:], {PLACE: 300}) == Written(100, 100)
    assert await counted(book) == 300
    await assert_rollups_equal_a_recount(book)


async def test_an_event_twice_in_one_batch_is_one_entry(book: Book) -> None:
    entries = entries_of(some_finished(10, seed=3))
    assert await book.log.write([*entries, *entries[:4]], {PLACE: 14}) == Written(10, 4)
    await assert_rollups_equal_a_recount(book)


async def test_an_event_that_comes_again_at_another_time_of_its_day_is_known(book: Book) -> None:
    entry = entries_of([finished()])[0]
    await book.log.write([entry], {PLACE: 1})
    again = entry._replace(created_at=entry.created_at + timedelta(hours=3))
    assert await book.log.write([again], {PLACE: 2}) == Written(0, 1)


async def test_two_writers_of_the_same_events_at_once_write_them_once(book: Book) -> None:
    entries = entries_of(some_finished(400, seed=4))
    other = RequestLog(book.pool, Days(book.pool, book.clock, book.settings))

    async def write(log: RequestLog, batch: list[Entry]) -> Written:
        while True:
            try:
                return await log.write(batch, {PLACE: 1})
            except Transient:  # a deadlock ends one of the two, which then tries again
                continue

    results = await asyncio.gather(write(book.log, entries), write(other, entries[::-1]))
    assert sum(result.new for result in results) == 400
    assert await counted(book) == 400
    await assert_rollups_equal_a_recount(book)


async def test_reading_the_topic_again_from_its_start_changes_nothing(book: Book) -> None:
    records = records_of(some_finished(100, seed=5))
    await book.trail.keep(records)
    await book.trail.keep(records[:60])
    await book.trail.keep(records[60:])
    assert await counted(book) == 100
    await assert_rollups_equal_a_recount(book)


async def test_a_topic_that_was_made_anew_counts_from_zero_and_loses_nothing(book: Book) -> None:
    await book.trail.keep(records_of(some_finished(50, seed=6), first=1000))
    await book.trail.keep(records_of(some_finished(20, seed=7), first=0))
    assert await counted(book) == 70


async def test_the_stored_place_moves_with_the_entries_and_never_back(book: Book) -> None:
    await book.trail.keep(records_of(some_finished(5, seed=8), partition=3, first=10))
    await book.trail.keep(records_of(some_finished(1, seed=9), partition=3, first=2))
    rows = await book.owner.fetch("SELECT topic, partition, next_offset FROM audit.consumer_offsets")
    assert [tuple(row) for row in rows] == [("audit.requests.v1", 3, 15)]


async def test_nothing_of_a_failed_transaction_stays(book: Book) -> None:
    good, bad = entries_of([finished(), finished()])
    with pytest.raises(Permanent):
        await book.log.write([good, bad._replace(credits_used_mc=-1)], {PLACE: 2})
    for table in ("request_log", "daily_usage", "daily_totals", "consumer_offsets"):
        assert await book.owner.fetchval(f"SELECT count(*) FROM audit.{table}") == 0  # noqa: S608 - names above


async def test_poison_is_a_dead_letter_and_its_neighbours_are_entries(book: Book) -> None:
    last_year = finished(occurred_at=NOW - timedelta(days=800))
    await book.trail.keep(records_of([finished(), b"{", last_year, None, finished()]))
    assert await counted(book) == 2
    assert [record.offset for record, _ in book.dead] == [1, 2, 3]
    assert await book.owner.fetchval("SELECT next_offset FROM audit.consumer_offsets") == 5


async def test_a_late_event_gets_the_partition_of_its_day(book: Book) -> None:
    late = NOW - timedelta(days=40)
    await book.trail.keep(records_of([finished(occurred_at=late)]))
    assert not book.dead
    assert await book.owner.fetchval("SELECT created_at FROM audit.requests") == late


async def test_a_day_whose_partition_vanished_is_made_again_at_the_next_try(book: Book) -> None:
    await book.days.ensure([NOW.date()])
    await book.owner.execute("DROP TABLE audit.request_log_20261121")
    with pytest.raises(Transient):
        await book.log.write(entries_of([finished()]), {PLACE: 1})
    assert await book.log.write(entries_of([finished()]), {PLACE: 1}) == Written(1, 0)


async def test_without_postgres_a_batch_waits_and_nothing_is_a_dead_letter(book: Book) -> None:
    book.pool.terminate()
    with pytest.raises(Transient):
        await book.trail.keep(records_of([finished(), b"{"]))
    assert not book.dead


async def days_of_the_log(book: Book) -> list[date]:
    names = await book.owner.fetch(
        "SELECT right(inhrelid::regclass::text, 8) FROM pg_inherits"
        " WHERE inhparent = 'audit.request_log'::regclass ORDER BY 1"
    )
    return [date.fromisoformat(row[0]) for row in names]


async def test_partitions_are_made_ahead_and_old_ones_dropped(book: Book) -> None:
    old = NOW - timedelta(days=399)
    book.clock.time = await book.owner.fetchval("SELECT now()")  # the database refuses to drop days it calls recent
    today = book.clock.time.date()
    await book.days.ensure([today - timedelta(days=400), today - timedelta(days=401), old.date()])
    await book.days.keep_house()
    days = await days_of_the_log(book)
    assert today - timedelta(days=400) in days
    assert today - timedelta(days=401) not in days
    assert days[-9:] == [today + timedelta(days=n) for n in range(-1, 8)]
    await book.days.keep_house()
    assert await days_of_the_log(book) == days


async def test_two_processes_may_make_the_same_day_at_once(book: Book) -> None:
    wanted = [NOW.date() + timedelta(days=n) for n in range(10)]
    several = [Days(book.pool, book.clock, book.settings) for _ in range(4)]
    await asyncio.gather(*(days.ensure(wanted) for days in several))
    assert await days_of_the_log(book) == wanted


async def test_the_process_cannot_change_or_delete_what_it_wrote(book: Book) -> None:
    await book.log.write(entries_of([finished()]), {PLACE: 1})
    for statement in (
        "UPDATE audit.request_log SET credits_used_mc = 0",
        "DELETE FROM audit.request_log",
        "TRUNCATE audit.request_log",
        "DROP TABLE audit.request_log_20261121",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await book.pool.execute(statement)
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await book.pool.execute("SELECT audit.drop_days_before(current_date)")


@pytest.mark.parametrize(
    ("role", "views"),
    [
        ("gateway", {"requests", "usage_by_endpoint", "usage_by_day", "totals_by_day", "latency_by_day"}),
        ("credits", {"requests"}),
        ("ingest", set()),
    ],
)
async def test_other_services_read_the_views_granted_to_them_and_nothing_else(
    book: Book, servers: Stack, role: str, views: set[str]
) -> None:
    await book.log.write(entries_of([finished()]), {PLACE: 1})
    reader = await asyncpg.connect(dsn(servers.site, role))
    readable = set()
    try:
        relations = await book.owner.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'audit'::regnamespace AND relkind IN ('r', 'p', 'v')"
        )
        for name in [row["relname"] for row in relations]:
            try:
                await reader.fetch(f"SELECT * FROM audit.{name}")  # noqa: S608 - names from the catalogue
                readable.add(name)
            except asyncpg.InsufficientPrivilegeError:
                continue
    finally:
        await reader.close()
    assert readable == views


async def test_percentiles_of_the_rollup_are_those_of_the_log(book: Book) -> None:
    entries = entries_of(some_finished(3000, seed=10))
    await book.log.write(entries, {PLACE: 3000})
    got = await book.owner.fetchrow(
        "SELECT audit.latency_ms(audit.sum_counts(latency), 0.5), audit.latency_ms(audit.sum_counts(latency), 0.95)"
        " FROM audit.latency_by_day"
    )
    cuts = quantiles([entry.duration_ms for entry in entries], n=20)
    assert got is not None
    assert list(got) == pytest.approx([cuts[9], cuts[18]], rel=0.05)


async def test_a_request_is_found_by_its_hold_and_shows_what_it_cost(book: Book) -> None:
    hold = UUID(int=99)
    event = finished(hold_id=hold, credits_used_mc=1500)
    await book.log.write(entries_of([event]), {PLACE: 1})
    row = await book.owner.fetchrow("SELECT * FROM audit.requests WHERE hold_id = $1", hold)
    assert row is not None
    assert (row["request_id"], row["event_id"], row["credits_used_mc"]) == (event.event_id, event.event_id, 1500)
