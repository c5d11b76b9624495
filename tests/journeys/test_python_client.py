"""The Python client as a program uses it, against everything real."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bigdata_client import (
    AsyncClient,
    Client,
    Forbidden,
    InsufficientCredits,
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    Receipt,
    UnsupportedFormat,
    Upload,
    UploadFailed,
)
from common.ids import new_id
from devstack.stack import Stack
from support.polling import until


def _people(mark: str, rows: int) -> bytes:
    lines = [f"{mark}-{number}@example.com,Ann,{number}\n" for number in range(rows)]
    return "".join(["email,first_name,age\n", *lines, "this is no address,Bob,1\n"]).encode()


@pytest.fixture
def admin_client(stack: Stack) -> AsyncClient:
    return AsyncClient(stack.url("gateway"), stack.status().admin_key)


async def test_a_file_is_sent_followed_and_queried(stack: Stack, admin_client: AsyncClient, tmp_path: Path) -> None:
    mark = f"client-{new_id()}"
    file = tmp_path / "people.csv"
    file.write_bytes(_people(mark, 50))
    seen: list[Upload] = []
    async with admin_client as admin:
        done = await admin.upload(file, "people", wait=True, on_progress=seen.append, deadline_s=120)
        assert (done.state, done.rows.accepted, done.rows.rejected) == ("completed_with_rejects", 50, 1)
        assert (seen[0].state, seen[0].bytes_done) == ("sending", file.stat().st_size)
        assert seen[-1] == done
        assert "no address" in await admin.rejects(done.upload_id)
        assert (await admin.upload(file, "people", wait=True)).duplicate_of == done.upload_id

        created = await admin.create_user(f"reader-{new_id()}", credits=10)
        async with AsyncClient(stack.url("gateway"), created.api_key) as reader:
            found = await reader.query(
                "people", filters={"email": f"{mark}-7@EXAMPLE.com"}, select=["first_name", "age"]
            )
            assert found.data == ({"first_name": "Ann", "age": 7},)
            assert (found.metadata.credits_used, found.metadata.credits_remaining) == (1, 9)
            mine: Mapping[str, Any] = {"filters": {"upload_id": done.upload_id}, "select": ["age"], "sort": "age"}
            assert (await reader.query_arrow(mine, limit=5)).column("age").to_pylist() == [0, 1, 2, 3, 4]
            assert [len(page) async for page in reader.pages(mine, limit=40)] == [40, 10]
            quote = await reader.quote(mine)
            assert (await reader.query(mine, quote_id=quote.quote_id)).metadata.credits_used <= quote.credits_max
            streamed = await reader.query_to_file(tmp_path / "rows.csv", mine, format="csv")
            assert len((tmp_path / "rows.csv").read_text().splitlines()) == 51
            assert streamed.query_id
            receipt = await until("the receipt", lambda: _receipt(reader, found.metadata.query_id), deadline_s=30)
            assert receipt is not None
            assert (receipt.state, receipt.credits_used) == ("captured", 1)


async def _receipt(client: AsyncClient, query_id: str) -> Receipt | None:
    try:
        found = await client.receipt(query_id)
    except NotFound:
        return None
    return found if found.state == "captured" else None


async def test_the_sync_client_does_the_same_for_programs_that_do_not_await(stack: Stack) -> None:
    await asyncio.to_thread(_account, stack)


def _account(stack: Stack) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    with Client(stack.url("gateway"), stack.status().admin_key) as admin:
        created = admin.create_user(f"sync-{new_id()}", credits=1)
        user_id = created.user.id
        with Client(stack.url("gateway"), created.api_key) as client:
            assert client.me().username == created.user.username
            assert client.query("people", limit=1).metadata.credits_used == 1
            with pytest.raises(InsufficientCredits) as poor:
                client.query("people", limit=1)
            assert (poor.value.available, poor.value.needed) == (0, 1)
            assert admin.add_credits(user_id, 4.5, reason="a journey").balance >= 4.5
            with pytest.raises(InvalidRequest) as wrong:
                client.query("people", filters={"nonsense": 1})
            assert [fault.partition(":")[0] for fault in wrong.value.faults] == ["filters.nonsense"]
            with pytest.raises(Forbidden):
                client.users()
            assert client.credits().balance >= 4.5
            assert "a journey" in {entry.reason for entry in client.statement().items}
            assert len(client.usage(days=7)) == 7
            assert {one.name for one in client.datasets()} >= {"people", "flights"}
            assert client.dataset("people").rows is not None
            _keys(stack, client)
        found = admin.users(search=created.user.username)
        assert [one.id for one in found.items] == [user_id]
        assert admin.user(user_id).keys
        other = admin.create_user(f"sync-{new_id()}", credits=1).user
        assert admin.set_credits(other.id, 6, reason="a journey").balance == 6
        assert [entry.kind for entry in admin.user_statement(other.id).items] == ["adjustment", "grant"]
        assert [entry.username for entry in admin.ledger(user_id=other.id).items] == [other.username] * 2
        live = admin.tail_logs(user_id=user_id, **{"from": began.isoformat()})
        assert next(live)["username"] == created.user.username
        admin.set_status(user_id, "disabled")


def _keys(stack: Stack, client: Client) -> None:
    made = client.create_key("journey", scopes=["query", "read"], expires_at=datetime.now(UTC) + timedelta(days=1))
    assert made.id is not None
    rotated = client.rotate_key(made.id)
    assert rotated.api_key != made.api_key
    assert rotated.id is not None
    with Client(stack.url("gateway"), rotated.api_key) as other:
        assert other.me().key_id == rotated.id
        client.revoke_key(rotated.id)
        with pytest.raises(InvalidApiKey):
            other.me()
    mine = client.keys()
    assert {key.name for key in mine} >= {"first", "journey"}


async def test_a_file_that_cannot_be_loaded_raises_its_reason(admin_client: AsyncClient) -> None:
    async with admin_client as admin:
        with pytest.raises(UnsupportedFormat):
            await admin.upload(b"\x7fELF" + new_id().bytes * 40, "people", filename="x.csv", wait=True)
        no_parquet = b"PAR1" + new_id().bytes * 40 + b"PAR1"
        with pytest.raises(UploadFailed):
            await admin.upload(no_parquet, "people", filename="x.parquet", wait=True, deadline_s=120)
