"""The record loader is killed, told everything twice, joined and frozen: every record is one row or one reason."""

import asyncio
import signal
from contextlib import suppress

import pytest

from common.ids import new_id
from devstack.process import StackError
from devstack.stack import Stack
from support.offsets import committed_past_effect
from support.polling import until
from support.records import (
    PEOPLE,
    accepted,
    all_durable,
    all_shown,
    buried,
    people,
    produce,
    shown,
)
from support.stack import environment, further_copy
from support.uploads import select

pytestmark = pytest.mark.usefixtures("answered")

WORKER = "ingest-worker"


async def exact(stack: Stack, run: object, count: int) -> None:
    """I3 of these records, and I5."""
    await all_durable(stack, deadline_s=90)
    await all_shown(stack, run, count)
    assert await committed_past_effect(stack) == {}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("records.fetched", marks=pytest.mark.long),
        pytest.param("records.parsed", marks=pytest.mark.long),
        "records.inserted",
        pytest.param("records.counted", marks=pytest.mark.long),
        pytest.param("records.buried", marks=pytest.mark.long),
    ],
)
async def test_killed_anywhere_every_record_is_one_row(stack: Stack, place: str) -> None:
    """27."""
    run = new_id()
    poison = f"poison {run}".encode()
    before = await accepted(stack)
    async with environment(stack, WORKER, {"FAULTPOINTS": place}):
        await produce(stack, *people(run, range(200)), (poison, PEOPLE))

        async def dead() -> bool:
            return bool(stack.status().to_json()["processes"][WORKER]["state"] != "running")

        await until("the worker to be killed", dead, deadline_s=60)
    await exact(stack, run, 200)
    assert await accepted(stack) == before + 200, "counted once"

    async def is_buried() -> int:
        return len(await buried(stack, poison))

    # A crash may repeat a dead letter rather than lose one.
    assert await until("the dead letter", is_buried, deadline_s=60) in {1, 2}


@pytest.mark.long
async def test_everything_delivered_again_changes_nothing(stack: Stack) -> None:
    """28: as after lost offsets, long after the tables' windows: every try has a token of its own anyway."""
    run = new_id()
    await produce(stack, *people(run, range(500)))
    await exact(stack, run, 500)
    newest = "SELECT max(version), count() FROM bigdata.people FINAL WHERE source = {r:String}"
    rows, counted = select(stack, newest, {"r": f"run-{run}"}), await accepted(stack)
    # A group that nobody knows begins at the beginning. All the poison of other tests comes again too.
    again = {"RECORDS_GROUP": f"again-{run}", "DEAD_LETTERS_MAX": "100000"}
    async with environment(stack, WORKER, again):

        async def delivered() -> bool:
            copies = select(
                stack, "SELECT count() FROM bigdata.people_history WHERE source = {r:String}", {"r": f"run-{run}"}
            )
            return copies == [(1000,)]

        await until("the second delivery", delivered, deadline_s=90)
    await produce(stack, *people(run, range(500, 501)))
    await all_shown(stack, run, 501)
    assert select(stack, newest + " AND email NOT LIKE '500.%'", {"r": f"run-{run}"}) == rows
    assert await accepted(stack) == counted + 1


@pytest.mark.long
async def test_a_second_worker_joins_in_mid_batch_freezes_and_wakes(stack: Stack) -> None:
    """29."""
    run = new_id()
    numbers = iter(range(100_000))
    sent = 0

    async def send(count: int) -> None:
        nonlocal sent
        await produce(stack, *people(run, [next(numbers) for _ in range(count)]))
        sent += count

    await send(2000)
    async with further_copy(stack, WORKER, index=7) as copy:
        for _ in range(3):
            await send(500)
        await stack.kill(copy, signal.SIGSTOP)
        await send(500)
        await asyncio.sleep(3)  # not a wait for something: a freeze in the midst of work
        await send(500)
        await stack.kill(copy, signal.SIGCONT)
        await send(500)
        await exact(stack, run, sent)
    with suppress(StackError):
        await stack.start(WORKER)
    await send(100)
    await exact(stack, run, sent)
    assert shown(stack, run) == sent
