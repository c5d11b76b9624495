"""Hostile files over HTTP: refused or failed in a sentence, nothing charged, the worker alive for the next file."""

import asyncio
from typing import Any

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import create_user, open_client
from support.hostile_files import external, gzip_bomb, laughs, mutants, overlapping_zip, parquet_bomb, parquet_files
from support.polling import until
from support.written import as_csv, as_parquet, as_zip

WORKER = "ingest-worker"


async def upload(client: httpx.AsyncClient, data: bytes, filename: str = "") -> dict[str, Any]:
    """What became of a file, when it is accepted at all."""
    sent = await client.post("/v1/uploads", params={"dataset": "people", "filename": filename}, content=data)
    assert sent.status_code == 202, sent.text

    async def look() -> dict[str, Any] | None:
        status: dict[str, Any] = (await client.get(f"/v1/uploads/{sent.json()['upload_id']}")).json()
        return status if status["finished_at"] else None

    found = await until("the upload to end", look, deadline_s=120)
    assert found is not None
    return found


def good() -> bytes:
    return as_csv([{"email": f"{new_id()}@example.org", "age": 1}])


async def test_hostile_files_fail_in_a_sentence_and_the_worker_goes_on(stack: Stack, admin: httpx.AsyncClient) -> None:
    before = stack.status().to_json()["processes"][WORKER]["pid"]
    files = {
        "the XML has a DTD": laughs().encode(),
        "it has a DTD": b"<!--" + b"x" * 70_000 + b"-->" + external("http://127.0.0.1:9", "dtd"),
        "Excessive depth": b"<r><p><email>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</email></p></r>",
        "it unpacks to more than 200 times its size": gzip_bomb(280 << 20),
        "the zip file cannot be read": overlapping_zip(900, 1 << 20),
        "more bytes than are allowed": parquet_bomb(20 << 30),
        "the Parquet file cannot be read": b"PAR1" + b"x" * 40 + b"PAR1",
        "the data are damaged": b"\x1f\x8b\x08\x00" + b"x" * 40,
        "the data end too soon": b"\x28\xb5\x2f\xfd\x04",
        "a PDF document": b"%PDF-1.7\n",
        "all 1 rows were rejected": b"email,age\nnobody,x\n",
        "nothing but white space": b" " * 100,
        "has a NUL in it": as_parquet([{"email": "a@example.org", "a\0b": 1}]),
    }
    ended = await asyncio.gather(*(upload(admin, data) for data in files.values()))
    for says, found in zip(files, ended, strict=True):
        assert found["state"] == "failed", (says, found)
        assert says in found["error"], found
    # Neither Postgres nor JSON could hold these names of columns.
    odd_names = b"email,a\x00b,c\xff,\xc3\xbc\n" + f"{new_id()}@example.org,1,2,3\n".encode()
    assert (await upload(admin, odd_names))["state"] == "completed"
    assert (await upload(admin, good()))["state"] == "completed"
    assert stack.status().to_json()["processes"][WORKER]["pid"] == before


async def test_broken_parquet_files_leave_the_worker_alone(stack: Stack, admin: httpx.AsyncClient) -> None:
    before = stack.status().to_json()["processes"][WORKER]["pid"]
    for data in mutants(parquet_files(), 5, seed=int.from_bytes(new_id().bytes[-4:])):
        found = await upload(admin, data, "mutant.parquet")
        assert found["state"] in {"failed", "completed", "completed_with_rejects"}
        if found["state"] != "failed":
            assert found["rows"]["total"] == found["rows"]["accepted"] + found["rows"]["rejected"]
    assert stack.status().to_json()["processes"][WORKER]["pid"] == before


async def test_names_in_an_archive_reach_no_folder(admin: httpx.AsyncClient) -> None:
    found = await upload(admin, as_zip(**{"../../../../tmp/slip_csv": good(), "b_csv": good()}), "x.zip")
    assert (found["state"], found["rows"]["accepted"]) == ("completed", 2)


@pytest.mark.parametrize("head", [b"\x7fELF\x02\x01\x01", b"MZ\x90\x00", b"\xfe\xed\xfa\xcf", b"#!/bin/sh\n"])
async def test_a_program_called_csv_is_refused_at_the_door(
    stack: Stack, admin: httpx.AsyncClient, answered: set[str], head: bytes
) -> None:
    created = await create_user(admin, f"sender-{new_id()}", credits=5)
    async with open_client(stack, created["api_key"], answered) as nobody:
        assert (await nobody.post("/v1/uploads", params={"dataset": "people"}, content=head)).status_code == 403
        assert (await nobody.get("/v1/credits")).json()["balance"] == 5
    params = {"dataset": "people", "filename": "people.csv"}
    refused = await admin.post("/v1/uploads", params=params, content=head + b"\x00" * 100)
    assert refused.status_code == 415, refused.text
    assert "a program" in refused.text
