"""The whole way from a drop to rows with the bucket on S3: moto's server (support/s3.py), not Amazon's program."""

from typing import Any

import obstore
import orjson
import pytest

from common.ids import new_id
from common.topics import INGEST_BUCKET
from devstack.stack import Stack
from support.polling import until
from support.s3 import BUCKET, open_s3
from support.stack import environment
from support.uploads import counts, ended, manifest, publish

pytestmark = pytest.mark.usefixtures("answered")

FOUND = "SELECT upload_id FROM ingest.uploads WHERE filename = $1"


async def test_a_drop_on_s3_is_loaded_once_by_its_notice_and_another_one_by_the_watch(stack: Stack) -> None:
    run = str(new_id())
    async with open_s3() as s3:
        # No look finds the first one before its notice does: the inbox must not change for an hour.
        slow = {"INBOX_STABLE_S": "3600"} | s3.environment("data")
        async with environment(stack, "ingest-worker", slow):
            noticed = f"{run}-noticed.csv"
            key = f"inbox/people/{noticed}"
            obstore.put(s3.store("data"), key, f"email\na.{run}@example.com\nb.{run}@example.com\n".encode())
            notice = {
                "eventName": "s3:ObjectCreated:Put",
                "s3": {"bucket": {"name": BUCKET}, "object": {"key": f"data/{key}"}},
            }
            await publish(stack, INGEST_BUCKET, *[orjson.dumps({"Records": [notice]})] * 2)
            await loaded(stack, noticed, 2)
        async with environment(stack, "ingest-worker", s3.environment("data")):
            watched = f"{run}-watched.csv"
            obstore.put(s3.store("data"), f"inbox/people/{watched}", f"email\nc.{run}@example.com\n".encode())
            await loaded(stack, watched, 1)
        assert [page for page in obstore.list(s3.store("data"), "inbox/") if page] == []


async def loaded(stack: Stack, filename: str, rows: int) -> None:
    async def found() -> list[dict[str, Any]]:
        return await manifest(stack, FOUND, filename)

    await until(f"{filename} to be found", found, deadline_s=60, every_s=0.2)
    (row,) = await found()
    upload = await ended(stack, row["upload_id"], deadline_s=90)
    assert (upload["state"], upload["rows_accepted"]) == ("completed", rows)
    assert counts(stack, "people", row["upload_id"]) == (rows, rows, 0)
    assert len(await found()) == 1
