"""One person is erased everywhere, and what is kept long enough is removed, on real servers."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord
from obstore.store import LocalStore

from common.datasets import Dataset, Datasets
from common.errors import Transient
from common.events import EraseRequested, UndoRequested, UploadReceived
from devstack.stack import Stack
from ingest import erase as erase_module
from ingest.record_erasures import erasures_since
from ingest.records import RecordLoader
from ingest.retention import Retention
from support.ingest_parts import dataset
from support.loads import declared, open_stores
from support.world import World, record

HEAD = b"email,phone,age\n"
FIRST = HEAD + b"ada@x.org,+12125550100,1\nbob@x.org,+12125550101,1\n"
# Ada has a new phone, and a row that did not fit.
SECOND = HEAD + b"ADA@x.org,+12125550102,2\nada@x.org,(212) 555-0100,none\ncyd@x.org,,2\n"
# Whose address only ends like hers.
THIRD = HEAD + b"not.ada@x.org,,none\nada@x.org.au,,3\n"


def people(name: str, **changes: Any) -> Dataset:
    return dataset(
        name=name,
        identity=["email", "phone"],
        columns={
            "email": {"type": "string", "normalise": "email"},
            "phone": {"type": "string", "normalise": "phone"},
            "age": {"type": "integer"},
        },
        **changes,
    )


@pytest_asyncio.fixture
async def world(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    async with open_stores(servers, monkeypatch) as stores:
        yield World(stores, LocalStore(tmp_path))


async def erase(world: World, target: Dataset, column: str, value: str) -> dict[str, Any]:
    command = EraseRequested(dataset=target.name, column=column, value=value)
    jobs = await world.jobs(target)
    await jobs.take(record(command.encoded()))
    await jobs.work_off()
    async with world.stores.manifest.connection() as connection:
        kept = await connection.fetchval("SELECT body FROM ingest.jobs WHERE job_id = $1", command.event_id)
    assert value not in str(kept)
    return await world.job(command)


async def seen(world: World, target: Dataset) -> list[tuple[Any, ...]]:
    query = f"SELECT email, phone, age FROM {target.name} FINAL ORDER BY email"  # noqa: S608 - ours
    return await world.stores.rows(query)


async def traces(world: World, target: Dataset) -> int:
    """Of Ada, wherever rows are kept."""
    found = await world.stores.rows(
        f"SELECT (SELECT countIf(email = 'ada@x.org' OR phone = '+12125550100') FROM {target.name}) + "  # noqa: S608 - ours
        f"(SELECT countIf(email = 'ada@x.org' OR phone = '+12125550100') FROM {target.history}) + "
        "(SELECT countIf(positionCaseInsensitive(raw, 'ada@x.org') > 0) FROM quarantine WHERE dataset = {name:String})",
        name=target.name,
    )
    return int(found[0][0])


@pytest.mark.parametrize(("column", "value"), [("email", "ada@x.org"), ("phone", "+12125550100")])
async def test_one_person_is_erased_with_every_version_and_stays_away(world: World, column: str, value: str) -> None:
    target = people(f"erased_{column}")
    uploads = [await world.upload(target, content) for content in (FIRST, SECOND)]
    assert await traces(world, target) > 2
    done = await erase(world, target, column, value)
    assert (done["state"], done["result"]["rows"]) == ("done", 4)
    assert await seen(world, target) == [("bob@x.org", "+12125550101", 1), ("cyd@x.org", None, 2)]
    assert await traces(world, target) == 0
    # Neither an undo nor a replay nor a reload brings them back.
    await world.replay(target, uploads[1])
    jobs = await world.jobs(target)
    await jobs.take(record(UndoRequested(upload_id=uploads[1]).encoded()))
    await jobs.work_off()
    assert await seen(world, target) == [("bob@x.org", "+12125550101", 1)]
    await world.replay(target, uploads[1])
    ((_, event),) = world.kafka.sent
    world.kafka.sent.clear()
    await world.plan(target, UploadReceived.model_validate_json(event))
    await world.load(target)
    if column == "email":
        assert await seen(world, target) == [("bob@x.org", "+12125550101", 1), ("cyd@x.org", None, 2)]
        assert await traces(world, target) == 0
    state = await world.stores.state(uploads[1])
    assert state["rows_accepted"] + state["rows_rejected"] == 3
    # What is sent afterwards is loaded.
    await world.upload(target, FIRST)
    assert ("ada@x.org", "+12125550100", 1) in await seen(world, target)


async def test_another_person_with_a_longer_address_stays(world: World) -> None:
    target = people("erased_alike")
    upload_id = await world.upload(target, THIRD)
    done = await erase(world, target, "email", "ada@x.org")
    assert (done["result"]["rows"], done["result"]["rejects"]) == (0, 0)
    assert await seen(world, target) == [("ada@x.org.au", None, 3)]
    assert (await world.replay(target, upload_id))["result"]["reasons"] == {"integer_syntax": 1}


def message(target: Dataset, email: str, offset: int, sent: datetime) -> ConsumerRecord:
    value, headers = json.dumps({"email": email}).encode(), (("dataset", target.name.encode()),)
    sent_ms = int(sent.timestamp() * 1000)
    return replace(record(value), topic=f"{target.name}.records", offset=offset, timestamp=sent_ms, headers=headers)


async def test_records_that_were_sent_before_an_erasure_do_not_come_back(world: World) -> None:
    target = people("erased_records")
    buried: list[str] = []

    async def bury(_: ConsumerRecord, reason: str) -> None:
        buried.append(reason)

    stores = world.stores
    loader = RecordLoader(stores.manifest, stores.clickhouse, await declared(stores, target), bury, stores.settings)
    sent = datetime.now(UTC)
    messages = [message(target, email, offset, sent) for offset, email in enumerate(["ada@x.org", "bob@x.org"])]
    await loader.take(messages)
    async with erasures_since(stores.manifest, 0):
        with pytest.raises(Transient, match="records that were read before"):
            await erase(world, target, "email", "ada@x.org")
    await (await world.jobs(target)).work_off()
    assert await seen(world, target) == [("bob@x.org", None, None)]
    # Read again within the topic's retention.
    await loader.take(messages)
    assert await seen(world, target) == [("bob@x.org", None, None)]
    await loader.take([message(target, "ada@x.org", 2, datetime.now(UTC) + timedelta(seconds=1))])
    assert await seen(world, target) == [("ada@x.org", None, None), ("bob@x.org", None, None)]
    assert buried == []


class Died(BaseException):
    """As SIGKILL is: nothing of ours runs after it."""


@pytest.mark.parametrize("place", ["erase.keys_kept", "erase.history_deleted", "erase.current_deleted"])
async def test_an_erasure_that_died_is_finished(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    target = people(place.replace(".", "_"))
    for content in (FIRST, SECOND):
        await world.upload(target, content)

    def dies(name: str) -> None:
        if name == place:
            raise Died

    monkeypatch.setattr(erase_module, "faultpoint", dies)
    with pytest.raises(Died):
        # Her first phone is only in the history by now: without it nobody could find her newest row again.
        await erase(world, target, "phone", "+12125550100")
    monkeypatch.setattr(erase_module, "faultpoint", lambda _: None)
    await (await world.jobs(target)).work_off()
    assert await traces(world, target) == 0
    assert await seen(world, target) == [("bob@x.org", "+12125550101", 1), ("cyd@x.org", None, 2)]


async def test_who_is_not_identified_by_a_column_is_not_erased_by_it(world: World) -> None:
    target = people("erased_by_age")
    await world.upload(target, FIRST)
    assert (await erase(world, target, "age", "1"))[
        "error"
    ] == "age does not identify anybody by itself in erased_by_age"
    assert len(await seen(world, target)) == 2


@dataclass
class Later:
    """A clock that is ahead."""

    days: int = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days)

    def monotonic(self) -> float:
        return 0.0


async def test_what_is_kept_long_enough_goes(world: World) -> None:
    terms = {"rows": "90d", "objects": "30d", "quarantine": "7d"}
    target, other = people("kept", retention=terms), people("kept_for_ever")
    uploads = [await world.upload(one, SECOND) for one in (target, other)]
    stores, clock = world.stores, Later()
    datasets: Datasets = await declared(stores, target, other)
    retention = Retention(stores.manifest, world.bucket, stores.clickhouse, datasets, await world.jobs(target), clock)

    async def left(number: int) -> tuple[int, bool, int]:
        figures = await world.figures((target, other)[number], uploads[number])
        keys = {str(one["path"]) for page in obstore.list(world.bucket) for one in page}
        return figures[1], f"uploads/{uploads[number]}/object" in keys, figures[2]

    for days, rows, kept, rejects in ((6, 2, True, 1), (8, 2, True, 0), (31, 2, False, 0), (91, 0, False, 0)):
        clock.days = days
        for _ in range(2):
            await retention.apply()
        assert await left(0) == (rows, kept, rejects), days
        assert await left(1) == (2, True, 1)
    assert await seen(world, target) == []
