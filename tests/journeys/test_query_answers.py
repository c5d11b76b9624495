"""What a query's answer can be: pages, groups, formats, quotes, kept answers, masks, an upload one has just sent."""

import asyncio
import csv
import gzip
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from backports import zstd

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until
from support.stack import further_copy

_COUNT = 250


def people(tag: str, count: int = _COUNT, first: int = 0) -> bytes:
    lines = ["email,phone,first_name,city,country,age,source"]
    for number in range(first, first + count):
        name = "=HYPERLINK(1)" if number == 0 else f"Name{number}"
        city = ("Delhi", "Mumbai", "Pune")[number % 3]
        lines.append(f"{tag}-{number}@example.com,+9198123{number:05d},{name},{city},IN,{number % 50},{tag}")
    return "\n".join(lines).encode()


async def send(loader: httpx.AsyncClient, content: bytes) -> str:
    sent = await loader.post("/v1/uploads", params={"dataset": "people", "filename": "a.csv"}, content=content)
    assert sent.status_code == 202, sent.text
    upload_id: str = sent.json()["upload_id"]
    return upload_id


@asynccontextmanager
async def user(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered, *scopes: str, **fields: Any
) -> AsyncIterator[httpx.AsyncClient]:
    more = {"scopes": ["query", "read", *scopes]} if scopes else {}
    created = await create_user(admin, f"asker-{new_id()}", **{"credits": 100, "plan": "unlimited"} | more | fields)
    async with open_client(stack, created["api_key"], answered) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loader(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    """Loads, and looks at everything."""
    async with user(stack, admin, answered, "pii", "ingest", credits=10_000) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loaded(loader: httpx.AsyncClient) -> str:
    tag = f"q{new_id().hex[-12:]}"
    seen = await ask(loader, wait_for=await send(loader, people(tag)), filters={"source": tag}, limit=1)
    assert seen["metadata"]["total_records"] == _COUNT
    return tag


@pytest_asyncio.fixture
async def reader(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    async with user(stack, admin, answered, "pii") as client:
        yield client


@pytest_asyncio.fixture
async def stranger(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    """Without the scope pii."""
    async with user(stack, admin, answered) as client:
        yield client


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """`wait_for`: an upload that the answer must show."""
    upload = body.pop("wait_for", None)
    headers = {"X-Wait-For-Upload": upload} if upload else {}
    answer = await client.post("/v1/query", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def receipt_of(client: httpx.AsyncClient, query_id: str) -> dict[str, Any]:
    async def settled() -> dict[str, Any] | None:
        answer = await client.get(f"/v1/queries/{query_id}")
        receipt: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return receipt if receipt.get("state") in {"captured", "released"} else None

    receipt = await until("the receipt", settled, deadline_s=40)
    assert receipt is not None
    return receipt


async def test_cursors_show_every_row_once_while_rows_are_added(
    reader: httpx.AsyncClient, loader: httpx.AsyncClient, loaded: str
) -> None:
    asked: dict[str, Any] = {"filters": {"source": loaded}, "sort": "age DESC", "select": ["email"], "limit": 60}
    seen: list[str] = []
    cursor: str | None = None
    for turn in range(6):
        found = await ask(reader, **asked, cursor=cursor)
        assert found["metadata"]["total_records"] == _COUNT
        seen += [row["email"] for row in found["data"]]
        cursor = found["metadata"]["next_cursor"]
        if cursor is None:
            break
        if turn == 1:
            # Later, and in the middle of the order: on no page of this cursor.
            await ask(loader, wait_for=await send(loader, people(loaded, 5, first=9000)), limit=1)
    assert len(seen) == len(set(seen)) == _COUNT


async def test_groups_are_counted_and_sorted(reader: httpx.AsyncClient, loaded: str) -> None:
    found = await ask(
        reader,
        filters={"source": loaded, "age": {"lt": 50}, "email": {"prefix": f"{loaded}-1"}},
        aggregate={"group_by": ["city", "year(ingest_ts)"], "metrics": {"n": "count()", "who": "uniq(email)"}},
        sort="n DESC",
    )
    assert sum(row["n"] for row in found["data"]) == 111
    assert all(row["n"] == row["who"] for row in found["data"])
    assert set(found["data"][0]) == {"city", "ingest_ts_year", "n", "who"}
    assert found["metadata"]["total_records"] == 3


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet", "arrow"])
async def test_each_format_has_the_rows_and_a_receipt_for_them(
    reader: httpx.AsyncClient, loaded: str, form: str
) -> None:
    body = {
        "filters": {"source": loaded, "age": {"lt": 5}},
        "select": ["first_name", "age", "phone"],
        "sort": ["age", "phone"],
    }
    answer = await reader.post("/v1/query", json={**body, "format": form, "count": "exact"})
    assert answer.status_code == 200, answer.text
    rows = rows_of(form, answer.content)
    assert len(rows) >= 25
    assert int(answer.headers["x-total-records"]) == len(rows)
    assert str(rows[0]["first_name"]) == ("'=HYPERLINK(1)" if form == "csv" else "=HYPERLINK(1)")
    assert str(rows[0]["phone"]).startswith("+91")
    receipt = await receipt_of(reader, answer.headers["x-query-id"])
    assert (receipt["state"], receipt["rows"]) == ("captured", len(rows))
    assert receipt["credits_held"] == float(answer.headers["x-credits-reserved"])


def rows_of(form: str, raw: bytes) -> list[dict[str, Any]]:
    if form == "ndjson":
        return [orjson.loads(line) for line in raw.splitlines()]
    if form == "csv":
        return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))
    table = pq.read_table(io.BytesIO(raw)) if form == "parquet" else pa.ipc.open_stream(raw).read_all()
    found: list[dict[str, Any]] = table.to_pylist()
    return found


async def test_accept_chooses_the_format_and_accept_encoding_the_packing(
    reader: httpx.AsyncClient, loaded: str
) -> None:
    headers = {"Accept": "application/xml, text/csv;q=0.8", "Accept-Encoding": "gzip"}
    body = {"filters": {"source": loaded}, "select": ["email"]}
    async with reader.stream("POST", "/v1/query", json=body, headers=headers) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert (answer.headers["content-encoding"], answer.headers["content-type"][:8]) == ("gzip", "text/csv")
    assert gzip.decompress(raw).count(b"\n") >= _COUNT + 1
    packed = {**body, "limit": 250}
    async with reader.stream("POST", "/v1/query", json=packed, headers={"Accept-Encoding": "zstd"}) as plain:
        raw = b"".join([piece async for piece in plain.aiter_raw()])
    assert plain.headers["content-encoding"] == "zstd"
    assert orjson.loads(zstd.decompress(raw))["metadata"]["returned"] == 250


async def test_an_export_asked_for_again_with_its_key_gets_its_receipt(reader: httpx.AsyncClient, loaded: str) -> None:
    headers = {"Idempotency-Key": f"key-{new_id()}"}
    body = {"filters": {"source": loaded}, "format": "ndjson", "limit": 3}
    first = await reader.post("/v1/query", json=body, headers=headers)
    await receipt_of(reader, first.headers["x-query-id"])
    again = await reader.post("/v1/query", json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "already_delivered")
    assert again.json()["details"]["rows"] == 3
    assert (await reader.get("/v1/credits")).json()["available"] == 99


async def test_a_quote_says_what_a_query_costs_and_is_kept(reader: httpx.AsyncClient, loaded: str) -> None:
    body = {"filters": {"source": loaded}, "limit": 10}
    quote = (await reader.post("/v1/query/quote", json=body)).json()
    assert (quote["credits_min"], quote["credits_max"]) == (1, 1)
    assert quote["rows_estimate"] == 10
    found = await ask(reader, **body, quote_id=quote["quote_id"])
    assert found["metadata"]["credits_used"] <= quote["credits_max"]
    other = await reader.post("/v1/query", json={**body, "limit": 11, "quote_id": quote["quote_id"]})
    assert (other.status_code, other.json()["details"][0]["path"]) == (422, "quote_id")
    assert (await reader.get("/v1/credits")).json()["available"] == 99  # the quote itself is free


async def test_an_answer_is_kept_until_the_next_load_ends(loader: httpx.AsyncClient, loaded: str) -> None:
    body = {"filters": {"source": loaded, "age": {"lte": 30}}, "sort": "age", "limit": 7}

    async def cached() -> bool:
        # Loads of other tests end meanwhile, each of which ends what was kept.
        return bool((await ask(loader, **body))["metadata"]["cached"])

    await until("a kept answer", cached, deadline_s=40, every_s=0.01)
    await ask(loader, wait_for=await send(loader, people(loaded, 1, first=8000)), limit=1)
    fresh = await ask(loader, **body, count="none")
    assert fresh["metadata"]["returned"] == 7


async def test_a_load_that_has_ended_is_seen_at_once_by_who_waits_for_it(
    reader: httpx.AsyncClient, loader: httpx.AsyncClient, loaded: str
) -> None:
    tag = f"{loaded}w"
    body = {"filters": {"source": tag}, "limit": 1}
    assert (await ask(reader, **body))["metadata"]["total_records"] == 0
    upload_id = await send(loader, people(tag, 3))
    own = await ask(loader, wait_for=upload_id, **body)
    assert own["metadata"]["total_records"] == 3


async def test_who_waits_for_what_never_comes_is_told_so(
    reader: httpx.AsyncClient, loader: httpx.AsyncClient, loaded: str
) -> None:
    async def refused(upload: str, **body: Any) -> tuple[int, str]:
        answer = await loader.post("/v1/query", json=body, headers={"X-Wait-For-Upload": upload})
        return answer.status_code, answer.json()["code"]

    assert await refused("not an id") == (400, "bad_header")
    assert await refused(str(new_id())) == (404, "not_found")
    upload_id = await send(loader, people(f"{loaded}x", 1))
    others = await reader.post("/v1/query", json={}, headers={"X-Wait-For-Upload": upload_id})
    assert others.status_code == 404
    assert (await reader.get("/v1/credits")).json()["available"] == 100


async def test_personal_columns_need_their_scope(
    reader: httpx.AsyncClient, stranger: httpx.AsyncClient, loaded: str
) -> None:
    body = {"filters": {"email": f"{loaded}-7@example.com"}, "select": ["email", "phone", "age"]}
    for client in (stranger, reader, stranger):  # kept answers are of what one may see
        row = (await ask(client, **body))["data"][0]
        shown = ("q***@example.com", "+91********07") if client is stranger else None
        assert (row["email"], row["phone"]) == (shown or (f"{loaded}-7@example.com", "+919812300007"))
    for leak in (
        {"filters": {"email": {"prefix": "q"}}},
        {"filters": {"phone": {"contains": "9812"}}},
        {"filters": {"email": {"gte": "a"}}},
        {"range": {"phone": {"from": "+91"}}},
        {"fuzzy": {"email": {"query": "q1"}}},
        {"sort": "email"},
        {"aggregate": {"group_by": ["email"], "metrics": {"n": "count()"}}},
        {"aggregate": {"metrics": {"n": "max(phone)"}}},
    ):
        refused = await stranger.post("/v1/query", json=leak)
        assert (refused.status_code, "pii" in refused.text) == (422, True), leak
    described = (await stranger.get("/v1/datasets/people")).json()["columns"]
    assert next(column for column in described if column["name"] == "email")["masked"] is True


async def test_a_dataset_that_reads_too_much_is_refused_with_estimate_and_limit(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered, loaded: str
) -> None:
    """By throw, never a part of a result: on a gateway that allows a query 50 rows."""
    created = await create_user(admin, f"asker-{new_id()}", credits=5, plan="unlimited")
    env = {"QUERY_ROWS_READ_MAX": "50"}
    async with (
        further_copy(stack, "gateway", index=5, env=env) as copy,
        open_client(stack, created["api_key"], answered, gateway=copy) as client,
    ):
        for form in ("json", "csv"):
            refused = await client.post("/v1/query", json={"fuzzy": {"city": {"query": loaded}}, "format": form})
            assert (refused.status_code, refused.json()["code"]) == (422, "query_too_expensive")
            details = refused.json()["details"]
            assert details["limit"]["rows_read"] == 50
            assert details["estimate"]["rows_read"] > 50

        async def refunded() -> bool:
            balance: dict[str, Any] = (await client.get("/v1/credits")).json()
            return balance == {"balance": 5, "held": 0, "available": 5}

        await until("the hold to be released", refunded, deadline_s=40)


async def test_many_scans_of_one_user_leave_a_neighbour_unharmed(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered, loaded: str
) -> None:
    async with (
        user(stack, admin, answered, plan="standard") as greedy,
        user(stack, admin, answered) as neighbour,
    ):
        scans = [
            asyncio.create_task(greedy.post("/v1/query", json={"fuzzy": {"city": {"query": f"{loaded}{n}"}}}))
            for n in range(40)
        ]
        for number in range(10):
            found = await ask(neighbour, filters={"email": f"{loaded}-{number}@example.com"})
            assert len(found["data"]) == 1
        statuses = [answer.status_code for answer in await asyncio.gather(*scans)]
    assert set(statuses) == {200, 429}  # standard: 20 at once
