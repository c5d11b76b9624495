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


async def test_a_drop_on_s3_is_loaded_once_whoever_sees_it_first(stack: Stack) -> None:
    """The watch and two notices of the same object race for it; another object has no notice at all."""
    run = str(new_id())
    names = {f"{run}-noticed.csv": 2, f"{run}-watched.csv": 3}
    async with open_s3() as s3, environment(stack, "ingest-worker", s3.environment("data")):
        bucket = s3.store("data")
        for name, rows in names.items():
            lines = "".join(f"{number}.{name}@example.com\n" for number in range(rows))
            obstore.put(bucket, f"inbox/people/{name}", f"email\n{lines}".encode())
        notice = {
            "eventName": "s3:ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": f"data/inbox/people/{run}-noticed.csv"}},
        }
        await publish(stack, INGEST_BUCKET, *[orjson.dumps({"Records": [notice]})] * 2)
        for name, rows in names.items():
            await loaded(stack, name, rows)

        async def empty() -> bool:
            return not [page for page in obstore.list(bucket, "inbox/") if page]

        await until("the inbox to be empty", empty, deadline_s=30)


async def loaded(stack: Stack, filename: str, rows: int) -> None:
    async def found() -> list[dict[str, Any]]:
        return await manifest(stack, FOUND, filename)

    await until(f"{filename} to be found", found, deadline_s=60, every_s=0.2)
    (row,) = await found()
    upload = await ended(stack, row["upload_id"], deadline_s=90)
    assert (upload["state"], upload["rows_accepted"]) == ("completed", rows)
    assert counts(stack, "people", row["upload_id"]) == (rows, rows, 0)
    assert len(await found()) == 1
