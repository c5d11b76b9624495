"""ClickHouse refuses, loses its answer or hangs, Kafka goes away: nothing is buried, and every row is there once.

The refusals come from a small proxy in front of ClickHouse (support/http_faults.py).
"""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.http_faults import DISK_FULL, TOO_MANY_PARTS, InsertFaults, open_insert_faults
from support.offsets import committed_past_effect
from support.polling import until
from support.records import all_durable, all_shown, people, produce, shown
from support.stack import environment, further_copy, without
from support.uploads import counts, dead_letters, ended, manifest, send, status

pytestmark = pytest.mark.usefixtures("answered")

WORKER = "ingest-worker"
QUICK = {"RETRY_MAX_S": "0.3", "SHUTDOWN_S": "6"}


@pytest_asyncio.fixture(scope="module")
async def faults(stack: Stack) -> AsyncIterator[InsertFaults]:
    """The worker behind the proxy, started once for the tests that want it so."""
    async with (
        open_insert_faults(stack.environment(WORKER)) as proxy,
        environment(stack, WORKER, QUICK | proxy.environment()),
    ):
        yield proxy


def csv(run: object, rows: int) -> bytes:
    return ("email,source\n" + "".join(f"{no}.{run}@example.org,x\n" for no in range(rows))).encode()


@pytest.mark.long
async def test_clickhouse_refuses_twenty_times_and_nothing_is_buried(stack: Stack, faults: InsertFaults) -> None:
    """31."""
    run, before = new_id(), len(await dead_letters(stack))
    faults.refusals = [*[TOO_MANY_PARTS] * 20, *[DISK_FULL] * 4]
    await produce(stack, *people(run, range(300)))
    upload_id = await send(stack, csv(run, 1000), "people")
    upload = await ended(stack, upload_id, deadline_s=120)
    await all_shown(stack, run, 300)
    assert faults.refusals == []
    assert (upload["state"], upload["rows_accepted"]) == ("completed", 1000)
    assert counts(stack, "people", upload_id)[0] == 1000
    assert len(await dead_letters(stack)) == before
    assert await committed_past_effect(stack) == {}


async def test_answers_that_are_lost_after_the_rows_were_stored_double_nothing(
    stack: Stack, faults: InsertFaults
) -> None:
    """32."""
    run, before = new_id(), len(await dead_letters(stack))
    faults.answers_lost = 3
    await produce(stack, *people(run, range(300)))
    upload_id = await send(stack, csv(run, 1000), "people")
    await ended(stack, upload_id, deadline_s=120)
    await all_shown(stack, run, 300)
    assert faults.answers_lost == 0
    assert counts(stack, "people", upload_id) == (1000, 1000, 0)
    assert len(await dead_letters(stack)) == before


@pytest.mark.long
async def test_a_worker_that_is_told_to_stop_while_clickhouse_hangs_leaves_its_offset(
    stack: Stack, faults: InsertFaults
) -> None:
    """36."""
    run = new_id()
    faults.hang()
    try:
        arrived = faults.arrived
        await produce(stack, *people(run, range(50)))

        async def inserting() -> bool:
            return faults.arrived > arrived

        await until("the insert to hang", inserting, deadline_s=60)
        await stack.stop(WORKER)
        assert await committed_past_effect(stack) == {}
        assert shown(stack, run) == 0
    finally:
        faults.heal()
        await stack.start(WORKER, QUICK | faults.environment())
    await all_durable(stack)
    await all_shown(stack, run, 50)


@pytest.mark.long
async def test_a_file_of_which_nothing_fits_is_stopped_before_it_fills_the_quarantine(stack: Stack) -> None:
    """33."""
    run, rows = new_id(), 30_000
    bad = ("email,age\n" + "".join(f"{no}.{run},none\n" for no in range(rows))).encode()
    async with environment(stack, WORKER, {"CHUNK_BYTES": "65536", "REJECTS_MAX": "100"}):
        upload_id = await send(stack, bad, "people")
        upload = await ended(stack, upload_id, deadline_s=90)
    assert upload["state"] == "failed"
    assert "were rejected: the rest was not read" in upload["error"]
    assert 0 < counts(stack, "people", upload_id)[2] < rows / 4


@pytest.mark.long
async def test_a_gateway_killed_before_kafka_knows_of_the_object_loses_nothing(
    stack: Stack, admin: httpx.AsyncClient
) -> None:
    """24."""
    run = new_id()
    data = csv(run, 40)
    async with further_copy(stack, "gateway", index=8, env={"FAULTPOINTS": "gateway.upload_announced"}) as copy:
        with pytest.raises(httpx.TransportError):
            await admin.post(
                f"{stack.url(copy)}/v1/uploads", params={"dataset": "people", "filename": f"{run}.csv"}, content=data
            )

    async def found() -> list[dict[str, object]]:
        return await manifest(stack, "SELECT upload_id FROM ingest.upload_status WHERE filename = $1", f"{run}.csv")

    await until("the watch to announce it", found, deadline_s=60)
    (row,) = await manifest(stack, "SELECT upload_id FROM ingest.upload_status WHERE filename = $1", f"{run}.csv")
    await ended(stack, row["upload_id"], deadline_s=60)
    assert counts(stack, "people", row["upload_id"]) == (40, 40, 0)


@pytest.mark.long
async def test_without_kafka_an_upload_is_only_accepted_when_it_is_durable_and_is_loaded_once(
    stack: Stack, admin: httpx.AsyncClient
) -> None:
    """25."""
    run = new_id()
    data = csv(run, 40)
    async with without(stack, "kafka"):
        refused = await admin.post("/v1/uploads", params={"dataset": "people"}, content=data, timeout=60)
        assert refused.status_code == 503, refused.text
        upload_id = refused.json()["details"]["upload_id"]
    accepted = await until_accepted(admin, data)
    for one in {upload_id, accepted}:

        async def done(one: str = one) -> bool:
            answer = await admin.get(f"/v1/uploads/{one}")
            return answer.status_code == 200 and answer.json()["finished_at"] is not None

        await until("both to end", done, deadline_s=90)
    states = [(await admin.get(f"/v1/uploads/{one}")).json() for one in (upload_id, accepted)]
    assert [state["rows"]["accepted"] for state in states] == [40, 40]
    assert {state["duplicate_of"] is None for state in states} == {True, False}, "loaded once"
    await produce(stack, *people(run, range(20)))
    await all_shown(stack, run, 20)


async def until_accepted(admin: httpx.AsyncClient, data: bytes) -> str:
    async def accepted() -> str | None:
        answer = await admin.post("/v1/uploads", params={"dataset": "people"}, content=data, timeout=60)
        return answer.json()["upload_id"] if answer.status_code == 202 else None

    found = await until("uploads to be accepted again", accepted, deadline_s=60, every_s=0.5)
    assert found is not None
    return found


@pytest.mark.long
async def test_after_ten_restarts_of_the_broker_records_move_or_the_worker_says_that_it_is_stuck(stack: Stack) -> None:
    """38."""
    run = new_id()
    async with environment(stack, WORKER, {"STALLED_S": "30"}):
        for number in range(10):
            await stack.restart("kafka")
            await asyncio.sleep(0.2 * (number % 3))  # not a wait for something: at different moments of reconnecting
        await produce(stack, *people(run, range(20)))

        async def moved_or_stuck() -> bool:
            if shown(stack, run) == 20:
                return True
            async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
                return (await http.get(f"{stack.ops_url(WORKER)}/healthz")).status_code == 503

        await until("progress, or liveness to fail", moved_or_stuck, deadline_s=90, every_s=0.5)
    await all_shown(stack, run, 20, deadline_s=90)
    assert await committed_past_effect(stack) == {}
    assert await status(stack, new_id()) is None
