"""Every format and packing, from the client's hand over HTTP to rows that a query shows."""

import gzip
from typing import Any

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.polling import until
from support.uploads import select
from support.written import FORMATS, as_csv, as_parquet, as_zstd

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = pytest.mark.usefixtures("answered")


def people(count: int = 50) -> list[dict[str, Any]]:
    tag = new_id()
    rows: list[dict[str, Any]] = [
        {"email": f"{number}.{tag}@example.com", "age": number % 90, "first_name": f"Zoë {number}", "shoe": str(number)}
        for number in range(count)
    ]
    rows[0]["age"] = None
    return rows


async def upload(admin: httpx.AsyncClient, data: bytes, filename: str, **headers: str) -> str:
    sent = await admin.post(
        "/v1/uploads",
        params={"dataset": "people", "filename": filename},
        content=data,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    assert sent.status_code == 202, sent.text
    return str(sent.json()["upload_id"])


async def finished(admin: httpx.AsyncClient, upload_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await admin.get(f"/v1/uploads/{upload_id}")).json()
        return found if found["finished_at"] else None

    found = await until("the upload to be loaded", look, deadline_s=90)
    assert found is not None
    return found


def stored(stack: Stack, upload_id: str) -> list[tuple[Any, ...]]:
    return select(
        stack,
        "SELECT email, age, first_name, JSONExtractString(toString(extra), 'shoe') FROM bigdata.people FINAL "
        "WHERE upload_id = {id:String} ORDER BY JSONExtractString(toString(extra), 'shoe')::Int32",
        {"id": upload_id},
    )


async def test_every_format_becomes_the_same_rows(stack: Stack, admin: httpx.AsyncClient) -> None:
    sent = {}
    for filename, write in FORMATS.items():
        rows = people()
        sent[await upload(admin, write(rows), filename)] = (filename, rows)
    for upload_id, (filename, rows) in sent.items():
        status = await finished(admin, upload_id)
        assert (status["state"], status["error"]) == ("completed", None), filename
        assert status["rows"] == {"total": 50, "accepted": 50, "rejected": 0}, filename
        expected = [(row["email"], row["age"], row["first_name"], row["shoe"]) for row in rows]
        assert stored(stack, upload_id) == expected, filename


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", as_zstd)])
async def test_a_packed_body_is_unpacked(stack: Stack, admin: httpx.AsyncClient, encoding: str, pack: Any) -> None:
    rows = people(5)
    upload_id = await upload(admin, pack(as_csv(rows)), "people.csv", content_encoding=encoding)
    assert (await finished(admin, upload_id))["state"] == "completed"
    assert len(stored(stack, upload_id)) == 5


@pytest.mark.parametrize(("encoding", "status"), [("gzip", 400), ("br", 415), ("gzip, gzip", 415), ("identity", 202)])
async def test_a_body_that_is_packed_otherwise_is_refused(admin: httpx.AsyncClient, encoding: str, status: int) -> None:
    answer = await admin.post(
        "/v1/uploads",
        params={"dataset": "people"},
        content=as_csv(people(2)),
        headers={"content-encoding": encoding},
    )
    assert answer.status_code == status, answer.text


async def test_row_groups_are_loaded_as_chunks_and_make_the_whole(stack: Stack, admin: httpx.AsyncClient) -> None:
    rows = people(2000)
    for row in rows:
        row["city"] = str(new_id()) * 40  # so that they take some room
    upload_id = await upload(admin, as_parquet(rows, row_group_size=500), "people.parquet")
    status = await finished(admin, upload_id)
    assert (status["state"], status["rows"]["accepted"]) == ("completed", 2000)
    assert len(stored(stack, upload_id)) == 2000


async def test_a_contradiction_says_who_said_what(admin: httpx.AsyncClient) -> None:
    upload_id = await upload(admin, as_parquet(people(2)), "people.csv")
    status = await finished(admin, upload_id)
    assert (status["state"], status["error"]) == ("failed", "the content is Parquet, but the file name says CSV")
