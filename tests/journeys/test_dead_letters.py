"""`bigdata dead-letters` as an operator types it."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.polling import until
from support.records import PEOPLE, all_shown, buried, produce
from support.uploads import dead_letters

pytestmark = pytest.mark.usefixtures("answered")


async def bigdata(stack: Stack, *arguments: str, code: int = 0) -> Any:
    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from bigdata_client.cli import main; main()", "dead-letters", *arguments]
        env = os.environ | {"KAFKA_BROKERS": str(stack.status().to_json()["kafka"]), "COLUMNS": "300"}
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)

    done = await asyncio.to_thread(run)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout


async def test_a_record_that_named_the_wrong_dataset_is_listed_and_sent_again_to_the_right_one(stack: Stack) -> None:
    run = new_id()
    person = {"email": f"1.{run}@example.com", "source": f"run-{run}"}
    value = json.dumps(person).encode()
    await produce(stack, (value, [("dataset", b"poeple")]))

    async def is_buried() -> bool:
        return len(await buried(stack, value)) == 1

    await until("the dead letter", is_buried, deadline_s=60)
    listed = await bigdata(stack, "list", "--json", "--limit", "1000")
    (letter,) = [one for one in listed if one["value"] == value.decode()]
    assert letter["reason"].startswith("header dataset: 'poeple' is not declared")
    assert (letter["dataset"], letter["source"]["topic"]) == ("poeple", "ingest.records.v1")
    place = f"{letter['partition']}:{letter['offset']}"
    done = await bigdata(stack, "replay", "--at", place, "--dataset", "people", "--json")
    assert done == {"sent": 1, "kept": []}
    await all_shown(stack, run, 1)


@pytest.mark.long
async def test_a_replay_of_all_sends_what_was_not_sent_before_and_keeps_what_was_cut(stack: Stack) -> None:
    run = new_id()
    value, oversize = f"\x1b[31m{{poison {run}".encode(), b'{"note": "' + f"{run}".encode() * 90_000 + b'"}'
    await produce(stack, (value, PEOPLE), (oversize, PEOPLE))

    async def are_buried() -> bool:
        return len(await buried(stack, value)) == 1

    await until("the dead letters", are_buried, deadline_s=60)
    # What is still no record is buried again, once; letters of others may be among those that are sent.
    done = await bigdata(stack, "replay", "--json", code=1)
    assert done["sent"] >= 1
    assert any("bytes was kept" in one["why_not"] for one in done["kept"])

    async def buried_again() -> bool:
        return len(await buried(stack, value)) >= 2

    await until("the dead letter to come back", buried_again, deadline_s=60)
    await no_more_come(stack)
    assert len(await buried(stack, value)) == 2
    listed = await bigdata(stack, "list", "--json", "--limit", "10000")
    assert sorted(one["replayed"] for one in listed if one["value"] == value.decode()) == [False, True]
    shown = await bigdata(stack, "list", "--limit", "10000")
    assert str(run) in shown
    assert "\x1b[31m" not in shown


async def no_more_come(stack: Stack) -> None:
    """Letters of other tests were sent again too: the tests after this one count theirs."""
    seen = -1

    async def settled() -> bool:
        nonlocal seen
        before, seen = seen, len(await dead_letters(stack))
        return seen == before

    await until("the other dead letters to come back", settled, deadline_s=60, every_s=2)


async def test_what_is_not_there_is_said(stack: Stack) -> None:
    await bigdata(stack, "replay", "--at", "0:99999999", code=1)
    await bigdata(stack, "replay", "--at", "first", code=2)
    await bigdata(stack, "list", "--topic", "ingest.chunks.v1", code=2)
