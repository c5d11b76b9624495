"""A file from the client's hand to rows, with everything in between visible to its sender and to nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until
from support.uploads import objects


def unique_csv(*rows: str) -> bytes:
    """No two tests may send the same content: it would be loaded once."""
    return "\n".join(["email,age,source", f"{new_id()}@example.com,1,x", *rows, ""]).encode()


async def send(client: httpx.AsyncClient, content: Any, **params: str) -> httpx.Response:
    return await client.post("/v1/uploads", params={"dataset": "people"} | params, content=content)


async def finished(client: httpx.AsyncClient, upload_id: str) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        answer = await client.get(f"/v1/uploads/{upload_id}")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status if status["finished_at"] else None

    status = await until("the upload to be loaded", done, deadline_s=60)
    assert status is not None
    return status


async def test_a_file_is_accepted_then_loaded_and_its_status_says_so(admin: httpx.AsyncClient) -> None:
    sent = await send(admin, unique_csv("b@example.com,not a number,x"), filename="../../a\r\nb.csv")
    assert sent.status_code == 202, sent.text
    accepted = sent.json()
    assert accepted["state"] == "received"
    assert accepted["status_url"] == f"/v1/uploads/{accepted['upload_id']}"
    status = await finished(admin, accepted["upload_id"])
    assert status["state"] == "completed_with_rejects"
    assert status["rows"] == {"total": 2, "accepted": 1, "rejected": 1}
    assert status["filename"] == "../../a\\u000d\\u000ab.csv"
    assert (status["sha256"], status["size"]) == (accepted["sha256"], accepted["size"])
    assert accepted["upload_id"] in {one["upload_id"] for one in (await admin.get("/v1/uploads")).json()}


async def test_rejected_rows_come_back_with_their_place_and_reason(admin: httpx.AsyncClient) -> None:
    sent = await send(admin, unique_csv("=cmd@example.com,=1+1,x"), filename="rejects.csv")
    status = await finished(admin, sent.json()["upload_id"])
    assert status["rows"]["rejected"] == 1
    lines = await admin.get(f"{sent.json()['status_url']}/rejects")
    assert lines.headers["content-type"] == "application/x-ndjson"
    reject = httpx.Response(200, content=lines.content.splitlines()[0]).json()
    assert (reject["line"], reject["column"]) == (3, "age")
    assert reject["reason"]
    assert "=1+1" in reject["raw"]
    table = (await admin.get(f"{sent.json()['status_url']}/rejects", params={"format": "csv"})).text
    assert table.splitlines()[0].replace('"', "").startswith("chunk_no,row_no,line,column,reason,raw")
    assert "'=cmd@" in table  # a spreadsheet must not run it
    assert (await admin.get(f"{sent.json()['status_url']}/rejects", params={"format": "xls"})).status_code == 415


async def test_a_form_is_a_file_too(admin: httpx.AsyncClient) -> None:
    content = unique_csv()
    files = {"file": ("people of 2026.csv", content, "text/csv")}
    sent = await admin.post("/v1/uploads", params={"dataset": "people"}, files=files)
    assert sent.status_code == 202, sent.text
    status = await finished(admin, sent.json()["upload_id"])
    assert (status["filename"], status["size"], status["state"]) == ("people of 2026.csv", len(content), "completed")


async def test_the_same_content_again_names_the_first_upload(admin: httpx.AsyncClient) -> None:
    content = unique_csv()
    first = (await send(admin, content)).json()
    await finished(admin, first["upload_id"])
    again = (await send(admin, content, filename="another name.csv")).json()
    assert (first["duplicate_of"], again["duplicate_of"]) == (None, first["upload_id"])


async def test_a_body_without_length_streams_in(admin: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield unique_csv()
        for number in range(1000):
            yield f"{number}-{new_id()}@example.com,{number % 90},x\n".encode()
            await asyncio.sleep(0)

    sent = await send(admin, pieces(), filename="streamed.csv")
    assert (await finished(admin, sent.json()["upload_id"]))["rows"]["accepted"] == 1001


@pytest.mark.parametrize(
    ("content", "params", "status"),
    [
        (b"", {}, 422),
        (b"\x7fELF\x02\x01\x01" + b"\x00" * 100, {"filename": "people.csv"}, 415),
        (b"MZ\x90\x00" + b"\x00" * 100, {}, 415),
        (b"x", {"dataset": "nope"}, 422),
        (b"x", {"format": "exe"}, 415),
        (b"x", {"replaces": "anything"}, 422),
    ],
)
async def test_what_cannot_be_loaded_is_refused_and_leaves_no_object(
    stack: Stack, admin: httpx.AsyncClient, content: bytes, params: dict[str, str], status: int
) -> None:
    before = objects(stack)
    refused = await send(admin, content, **params)
    assert refused.status_code == status, refused.text
    assert objects(stack) == before


@pytest.mark.parametrize("framing", ["Content-Length: 10000000", "Transfer-Encoding: chunked"])
async def test_a_client_that_breaks_off_leaves_no_object(stack: Stack, admin: httpx.AsyncClient, framing: str) -> None:
    before = objects(stack)
    address = urlsplit(stack.url())
    reading, writing = await asyncio.open_connection(address.hostname, address.port)
    lines = ("POST /v1/uploads?dataset=people HTTP/1.1", "Host: x", f"x-api-key: {admin.headers['x-api-key']}", framing)
    head = "\r\n".join((*lines, "", ""))
    body = b"x" * 100_000
    writing.write(head.encode() + (body if "Length" in framing else b"%x\r\n%b\r\n" % (len(body), body)))
    await writing.drain()
    writing.close()
    await reading.read()

    async def gone() -> bool:
        return objects(stack) == before

    await until("the part of the object to be gone", gone)


async def test_uploads_are_their_senders_and_the_admins_business(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    url = (await send(admin, unique_csv())).json()["status_url"]
    created = await create_user(admin, f"user-{new_id()}")
    async with open_client(stack, created["api_key"], answered) as user:
        assert (await user.get(url)).status_code == 403  # the key lacks the scope
        assert (await send(user, b"x")).status_code == 403
    async with open_client(stack, None, answered) as nobody:
        assert (await send(nobody, b"x")).status_code == 401
    assert (await admin.get(f"/v1/uploads/{new_id()}")).status_code == 404
    assert (await admin.get("/v1/uploads/not-an-id")).status_code == 422


async def test_uploads_are_listed_in_pages_newest_first(admin: httpx.AsyncClient) -> None:
    sent = [(await send(admin, unique_csv())).json()["upload_id"] for _ in range(3)]
    for upload_id in sent:
        await finished(admin, upload_id)
    page = await admin.get("/v1/uploads", params={"limit": 2})
    following = await admin.get("/v1/uploads", params={"limit": 2, "cursor": page.headers["X-Next-Cursor"]})
    listed = [one["upload_id"] for one in page.json() + following.json()]
    assert listed[:3] == sent[::-1]
    assert len(set(listed)) == 4


async def test_progress_comes_as_events_that_end_with_the_final_state(
    admin: httpx.AsyncClient, payer: httpx.AsyncClient
) -> None:
    upload_id = (await send(admin, unique_csv("events@example.com,none,x"))).json()["upload_id"]
    named: list[tuple[str, dict[str, Any]]] = []
    async with asyncio.timeout(90), admin.stream("GET", f"/v1/uploads/{upload_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                named.append((name, orjson.loads(line.removeprefix("data: "))))
    assert [one for one, _ in named] == ["progress"] * (len(named) - 1) + ["end"]
    assert named[-1][1] == (await admin.get(f"/v1/uploads/{upload_id}")).json()
    assert named[-1][1]["rows"] == {"total": 2, "accepted": 1, "rejected": 1}
    assert (await payer.get(f"/v1/uploads/{upload_id}/events")).status_code in {403, 404}
    assert (await admin.get(f"/v1/uploads/{new_id()}/events")).status_code == 404
