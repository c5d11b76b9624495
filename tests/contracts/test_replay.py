"""Replay on real servers: rejected rows are read again by a declaration that was changed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import pytest_asyncio
from obstore.store import LocalStore

from common.datasets import Dataset
from common.events import UndoRequested, UploadReceived
from devstack.stack import Stack
from ingest import replay as replay_module
from support.ingest_parts import dataset
from support.loads import open_stores
from support.world import World, record

CONTENT = b"email,age,level\n" + b"".join(b"%d@x.org,%d,%s\n" % (n, n, b"odd" if n % 3 else b"low") for n in range(30))
COLUMNS: dict[str, Any] = {"email": {"type": "string"}, "age": {"type": "integer"}}


def levels(name: str, *values: str) -> Dataset:
    level = {"type": "enum", "values": values}
    return dataset(name=name, identity=["email"], columns=COLUMNS | {"level": level})


@pytest_asyncio.fixture
async def world(servers: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    async with open_stores(servers, monkeypatch) as stores:
        yield World(stores, LocalStore(tmp_path))


async def test_a_dry_run_counts_and_the_replay_does_what_it_said(world: World) -> None:
    target, wider = levels("replay_some", "low"), levels("replay_some", "low", "odd")
    upload_id = await world.upload(target, CONTENT)
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)
    tried = await world.replay(wider, upload_id, dry_run=True)
    assert (tried["state"], tried["result"]["rows"]) == ("done", {"total": 20, "passed": 20, "failed": 0})
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)
    done = await world.replay(wider, upload_id)
    assert done["result"]["rows"] == {"total": 20, "passed": 20, "failed": 0}
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["generation"]) == ("completed", 2)
    assert (await world.replay(wider, upload_id))["result"]["rows"]["total"] == 0
    # All of it is this upload's: undone, nothing is left.
    jobs = await world.jobs(wider)
    await jobs.take(record(UndoRequested(upload_id=upload_id).encoded()))
    await jobs.work_off()
    (left,) = await world.stores.rows(f"SELECT count() FROM {target.history}")  # noqa: S608 - ours
    assert left == (0,)


async def test_what_fails_again_stays_in_quarantine(world: World) -> None:
    target = levels("replay_none", "low")
    upload_id = await world.upload(target, CONTENT)
    done = await world.replay(target, upload_id)
    assert done["result"]["rows"] == {"total": 20, "passed": 0, "failed": 20}
    assert done["result"]["reasons"] == {"enum_value": 20}
    assert await world.figures(target, upload_id) == (10, 10, 20, 10, 20)


async def test_a_file_of_which_nothing_passed_becomes_a_load(world: World) -> None:
    target, wider = levels("replay_all", "none"), levels("replay_all", "low", "odd")
    upload_id = await world.upload(target, CONTENT)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["live"]) == ("failed", False)
    await world.replay(wider, upload_id)
    state = await world.stores.state(upload_id)
    assert (state["state"], state["live"], state["error"]) == ("completed", True, None)
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)


class Died(BaseException):
    """As SIGKILL is: nothing of ours runs after it."""


@pytest.mark.parametrize("place", ["replay.loaded", "replay.booked"])
async def test_a_replay_that_died_is_done_once(world: World, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    name = place.replace(".", "_")
    target, wider = levels(name, "low"), levels(name, "low", "odd")
    upload_id = await world.upload(target, CONTENT)

    def dies(passed: str) -> None:
        if passed == place:
            raise Died

    monkeypatch.setattr(replay_module, "faultpoint", dies)
    with pytest.raises(Died):
        await world.replay(wider, upload_id)
    monkeypatch.setattr(replay_module, "faultpoint", lambda _: None)
    await (await world.jobs(wider)).work_off()
    found = await world.figures(target, upload_id)
    # Behind the booking the rejects of the generation before may stay; nobody reads them.
    assert (*found[:2], *found[3:]) == (30, 30, 30, 0)
    async with world.stores.manifest.connection() as connection:
        (job,) = await connection.fetch("SELECT * FROM ingest.job_status WHERE upload_id = $1", upload_id)
    assert (job["state"], job["result"]["rows"]["passed"]) == ("done", 20)


async def test_without_its_object_a_replay_says_so(world: World) -> None:
    target = levels("replay_lost", "low")
    upload_id = await world.upload(target, CONTENT)
    await obstore.delete_async(world.bucket, f"uploads/{upload_id}/object")
    done = await world.replay(target, upload_id)
    assert done["state"] == "failed"
    assert "not in the bucket any more" in done["error"]


async def test_an_undone_upload_is_loaded_again_as_a_new_generation(world: World) -> None:
    target = levels("replay_undone", "low", "odd")
    upload_id = await world.upload(target, CONTENT)
    jobs = await world.jobs(target)
    await jobs.take(record(UndoRequested(upload_id=upload_id).encoded()))
    assert (await world.replay(target, upload_id))["error"] == "this upload is busy, replay it when it has ended"
    done = await world.replay(target, upload_id)
    assert done["result"] == {"dry_run": False, "loading_again": True}
    ((_, event),) = world.kafka.sent
    world.kafka.sent.clear()
    await world.plan(target, UploadReceived.model_validate_json(event))
    await world.load(target)
    assert await world.figures(target, upload_id) == (30, 30, 0, 30, 0)
    assert (await world.stores.state(upload_id))["generation"] == 2
