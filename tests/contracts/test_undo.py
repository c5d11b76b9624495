"""Undo on real servers: the dataset is, row by row, one into which the upload was never loaded."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from aiokafka import ConsumerRecord

from common.datasets import Dataset
from common.errors import Transient
from common.events import UndoRequested
from devstack.stack import Stack
from ingest import undo as undo_module
from ingest.jobs import Jobs, Kind
from ingest.strays import Strays
from ingest.undo import Undo
from support.ingest_parts import dataset
from support.loads import Stores, declared, open_stores

# Whose newest version comes from which upload: the middle one replaces some of the first, is replaced by the last, and
# brings an older version of one whose order time decides.
FIRST = b"email,age,record_ts\n" + b"".join(b"%d@x.org,1,\n" % number for number in range(60))
MIDDLE = (
    b"email,age,record_ts\n"
    + b"".join(b"%d@x.org,2,\n" % number for number in range(30, 90))
    + (b"0@x.org,2,2020-01-01\n1@x.org,2,2049-01-01\n")
)
LAST = b"email,age,record_ts\n" + b"".join(b"%d@x.org,3,\n" % number for number in range(50, 100))
PLACES = ("undo.excluded", "undo.current_deleted", "undo.restored", "undo.history_deleted", "undo.removed", "undo.done")


@pytest_asyncio.fixture
async def stores(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    async with open_stores(servers, monkeypatch) as opened:
        yield opened


async def jobs_for(stores: Stores, *datasets: Dataset) -> Jobs:
    undo = Undo(stores.manifest, stores.clickhouse, await declared(stores, *datasets), readers_wait_s=0, stalled_s=60)
    return Jobs(stores.manifest, {"undo": Kind(undo.accept, undo.run)})


def command(upload_id: UUID) -> ConsumerRecord:
    value = UndoRequested(upload_id=upload_id).encoded()
    return ConsumerRecord("commands", 0, 0, 0, 0, None, value, None, 0, len(value), ())


def people(name: str) -> Dataset:
    return dataset(name=name, identity=["email"])


async def merge(stores: Stores, target: Dataset) -> None:
    for table in (target.name, target.history):
        await stores.clickhouse.command(f"OPTIMIZE TABLE {table} FINAL")


async def seen(stores: Stores, relation: str) -> list[tuple[object, ...]]:
    """Rows without the time of their insert; of their version only what orders them inside a dataset."""
    return await stores.rows(
        f"SELECT email, age, record_ts, extra, row_no FROM {relation} ORDER BY email, row_no"  # noqa: S608 - ours
    )


@pytest.mark.parametrize("when", ["merged", "as_loaded"])
async def test_undone_the_dataset_is_as_if_the_upload_had_never_been_loaded(stores: Stores, when: str) -> None:
    """35."""
    undone, other = people(f"undone_{when}"), people(f"never_{when}")
    jobs = await jobs_for(stores, undone, other)
    await stores.load(undone, FIRST)
    gone = await stores.load(undone, MIDDLE)
    await stores.load(undone, LAST)
    for content in (FIRST, LAST):
        await stores.load(other, content)
    if when == "merged":
        await merge(stores, undone)
    assert await seen(stores, f"{undone.name} FINAL") != await seen(stores, f"{other.name} FINAL")
    await jobs.take(command(gone))
    assert await stores.excluded(undone) == [str(gone)]
    assert (await stores.state(gone))["state"] == "undoing"
    await jobs.work_off()
    for _ in range(2):
        assert await seen(stores, f"{undone.name} FINAL") == await seen(stores, f"{other.name} FINAL")
        assert await seen(stores, undone.history) == await seen(stores, other.history)
        await merge(stores, undone)
    assert await stores.excluded(undone) == []
    assert (await stores.state(gone))["state"] == "undone"
    # The same content again is a load like any other, and can be undone again.
    again = await stores.load(undone, MIDDLE)
    await stores.load(other, MIDDLE)
    assert await seen(stores, f"{undone.name} FINAL") == await seen(stores, f"{other.name} FINAL")
    await jobs.take(command(again))
    await jobs.work_off()
    assert (await stores.state(again))["state"] == "undone"


class Died(BaseException):
    """As SIGKILL is: nothing of ours runs after it."""


@pytest.mark.parametrize("place", PLACES)
async def test_an_undo_that_died_behind_any_step_is_finished_by_another_worker(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    undone, other = (people(f"{prefix}_{place.partition('.')[2]}") for prefix in ("died", "lived"))
    jobs = await jobs_for(stores, undone, other)
    await stores.load(undone, FIRST)
    gone = await stores.load(undone, MIDDLE)
    await stores.load(other, FIRST)
    await merge(stores, undone)
    await jobs.take(command(gone))

    def dies(name: str) -> None:
        if name == place:
            raise Died

    monkeypatch.setattr(undo_module, "faultpoint", dies)
    with pytest.raises(Died):
        await jobs.work_off()
    if place != "undo.done":
        assert await stores.excluded(undone) == [str(gone)]
        without = f"(SELECT * FROM {undone.history} WHERE upload_id != '{gone}' ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key)"  # noqa: S608, E501 - ours
        assert await seen(stores, without) == await seen(stores, f"{other.name} FINAL")
    monkeypatch.setattr(undo_module, "faultpoint", lambda _: None)
    await (await jobs_for(stores, undone, other)).work_off()
    assert await seen(stores, f"{undone.name} FINAL") == await seen(stores, f"{other.name} FINAL")
    assert await seen(stores, undone.history) == await seen(stores, other.history)
    assert (await stores.state(gone))["state"] == "undone"
    assert await stores.excluded(undone) == []


async def test_other_uploads_go_on_loading_while_one_is_undone(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    undone, other = people("undone_while"), people("never_while")
    jobs = await jobs_for(stores, undone, other)
    await stores.load(undone, FIRST)
    gone = await stores.load(undone, MIDDLE)
    await jobs.take(command(gone))
    monkeypatch.setattr(undo_module, "faultpoint", _stop_at("undo.current_deleted"))
    with pytest.raises(Died):
        await jobs.work_off()
    await stores.load(undone, LAST)
    monkeypatch.setattr(undo_module, "faultpoint", lambda _: None)
    await jobs.work_off()
    for content in (FIRST, LAST):
        await stores.load(other, content)
    assert await seen(stores, f"{undone.name} FINAL") == await seen(stores, f"{other.name} FINAL")


def _stop_at(place: str) -> object:
    def dies(name: str) -> None:
        if name == place:
            raise Died

    return dies


async def test_a_load_that_failed_leaves_nothing_and_waits_for_loaders_that_still_work(stores: Stores) -> None:
    target = people("failed_load")
    jobs = await jobs_for(stores, target)
    await stores.load(target, FIRST)
    before = await seen(stores, f"{target.name} FINAL")
    event = await stores.begun(target, MIDDLE)
    chunk = await stores.manifest.begin(event.upload_id, 1, 0)
    assert chunk is not None
    rows = [(f"{number}@x.org", str(event.upload_id), number, 2**100) for number in range(10)]
    await stores.clickhouse.insert(target.history, rows, column_names=["email", "upload_id", "row_no", "version"])
    assert await stores.manifest.fail(event.upload_id, "another chunk was bad", 7)
    assert await stores.excluded(target) == [str(event.upload_id)]
    with pytest.raises(Transient, match="still being loaded"):
        await jobs.work_off()
    await stores.manifest.interrupted(chunk)
    await jobs.work_off()
    assert await seen(stores, f"{target.name} FINAL") == before
    state = await stores.state(event.upload_id)
    assert (state["state"], state["error"], state["rows_accepted"]) == ("failed", "another chunk was bad", 0)
    assert await stores.excluded(target) == []


async def test_a_correction_is_told_by_what_it_corrects_and_undoes_nothing(stores: Stores) -> None:
    target = people("corrected")
    await jobs_for(stores, target)
    first = await stores.load(target, FIRST)
    second = await stores.load(target, MIDDLE, replaces=first)
    state = await stores.state(first)
    assert (state["state"], state["corrected_by"]) == ("completed", second)


async def test_what_cannot_be_undone_is_a_job_that_says_why(stores: Stores) -> None:
    target = people("not_undone")
    jobs = await jobs_for(stores, target)
    event = await stores.begun(target, FIRST)
    record = command(event.upload_id)
    for _ in range(2):  # delivered twice it is one job
        await jobs.take(record)
    async with stores.manifest.connection() as connection:
        rows = await connection.fetch(
            "SELECT state, error FROM ingest.job_status WHERE upload_id = $1", event.upload_id
        )
    assert [(row["state"], row["error"]) for row in rows] == [
        ("failed", "this upload is still being loaded, undo it when it has ended")
    ]
    assert (await stores.state(event.upload_id))["state"] == "loading"


async def test_a_block_that_comes_after_the_undo_is_taken_back_too(stores: Stores) -> None:
    target = people("stray")
    jobs = await jobs_for(stores, target)
    await stores.load(target, FIRST)
    before = await seen(stores, f"{target.name} FINAL")
    gone = await stores.load(target, MIDDLE)
    await jobs.take(command(gone))
    await jobs.work_off()
    rows = [("0@x.org", str(gone), 1, 2**127), ("not an upload", "records:1", 1, 1)]
    await stores.clickhouse.insert(target.history, rows[:1], column_names=["email", "upload_id", "row_no", "version"])
    assert await seen(stores, f"{target.name} FINAL") != before
    strays = Strays(stores.manifest, stores.clickhouse, await declared(stores, target))
    for _ in range(2):
        await strays.look()
        await jobs.work_off()
    assert await seen(stores, f"{target.name} FINAL") == before
    assert (await stores.state(gone))["state"] == "undone"
    await stores.clickhouse.insert(target.history, rows[1:], column_names=["email", "upload_id", "row_no", "version"])
    await strays.look()
    assert len(await seen(stores, f"{target.name} FINAL")) == len(before) + 1
