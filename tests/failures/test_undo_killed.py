"""The worker is killed in the middle of an undo: the next one finishes it. ClickHouse is killed in the middle of loads:
every row is there once.
"""

from uuid import UUID

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.polling import until
from support.stack import environment
from support.uploads import counts, ended, select, send, status

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("answered")]

WORKER = "ingest-worker"
ROWS = 3000


def people(tag: str, age: int) -> bytes:
    return ("email,age\n" + "".join(f"{tag}.{number}@example.com,{age}\n" for number in range(ROWS))).encode()


def ages(stack: Stack, tag: str) -> list[tuple[int, int]]:
    query = "SELECT age, count() FROM bigdata.people FINAL WHERE email LIKE {tag:String} GROUP BY age ORDER BY age"
    return [(int(age), int(count)) for age, count in select(stack, query, {"tag": f"{tag}.%"})]


@pytest.mark.parametrize(
    "place",
    ["undo.excluded", "undo.current_deleted", "undo.restored", "undo.history_deleted", "undo.removed", "undo.done"],
)
async def test_killed_behind_any_step_an_undo_is_finished(stack: Stack, admin: httpx.AsyncClient, place: str) -> None:
    tag = str(new_id())
    await ended(stack, await send(stack, people(tag, 1), "people"))
    gone = await send(stack, people(tag, 2), "people")
    await ended(stack, gone)
    assert ages(stack, tag) == [(2, ROWS)]
    async with environment(stack, WORKER, {"FAULTPOINTS": place}):
        assert (await admin.delete(f"/v1/uploads/{gone}")).status_code == 202

        async def dead() -> bool:
            return bool(stack.status().to_json()["processes"][WORKER]["state"] != "running")

        await until("the worker to be killed", dead, deadline_s=60)
    await undone(stack, gone)
    assert ages(stack, tag) == [(1, ROWS)]
    again = await send(stack, people(tag, 2), "people")
    await ended(stack, again)
    assert ages(stack, tag) == [(2, ROWS)]


async def undone(stack: Stack, upload_id: UUID) -> None:
    async def look() -> bool:
        found = await status(stack, upload_id)
        return found is not None and found["state"] == "undone"

    await until("the upload to be undone", look, deadline_s=90)


async def test_clickhouse_killed_while_loads_run_leaves_every_row_once(stack: Stack) -> None:
    tag = str(new_id())
    async with environment(stack, WORKER, {"CHUNK_BYTES": "65536", "CHUNK_ATTEMPTS_MAX": "100"}):
        uploads = [await send(stack, people(f"{tag}.{number}", number), "people") for number in range(6)]
        for upload_id in uploads[::2]:

            async def begun(upload_id: UUID = upload_id) -> bool:
                found = await status(stack, upload_id)
                return found is not None and found["state"] != "planning"

            await until("an upload to load", begun, deadline_s=60)
            await stack.kill("clickhouse")
            await stack.start("clickhouse")
        for upload_id in uploads:
            upload = await ended(stack, upload_id, deadline_s=120)
            assert (upload["rows_accepted"], upload["error"]) == (ROWS, None)
    for upload_id in uploads:
        shown, _, rejected = counts(stack, "people", upload_id)
        assert (shown, rejected) == (ROWS, 0)
