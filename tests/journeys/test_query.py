"""A query from file to answer: what was loaded is found however it is asked for, and costs what was said."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until

_CITIES = ("Delhi", "Mumbai", "Pune")
_COUNT = 300


def people(tag: str) -> list[dict[str, Any]]:
    return [
        {
            "email": f"{tag}-{number}@Example.com",
            "phone": f"+9198765{number:05d}",
            "first_name": f"Prath {tag}" if number % 2 else f"Zoë {tag}",
            "last_name": "100%_\\ 'DROP",
            "city": _CITIES[number % 3],
            "country": "India",
            "age": number % 90,
            "source": tag,
            "record_ts": f"2026-01-01T00:{number // 60:02d}:{number % 60:02d}Z",
        }
        for number in range(_COUNT)
    ]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


async def load(admin: httpx.AsyncClient, dataset: str, content: bytes, filename: str) -> dict[str, Any]:
    sent = await admin.post("/v1/uploads", params={"dataset": dataset, "filename": filename}, content=content)
    assert sent.status_code == 202, sent.text

    async def finished() -> dict[str, Any] | None:
        status: dict[str, Any] = (await admin.get(sent.json()["status_url"])).json()
        return status if status["finished_at"] else None

    done = await until("the upload to be loaded", finished, deadline_s=60)
    assert done is not None
    return done


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def loaded(admin: httpx.AsyncClient) -> str:
    """300 people whose `source` is this tag, so that other tests' rows do not count."""
    tag = f"t{new_id().hex[-12:]}"
    status = await load(admin, "people", as_csv(people(tag)), "people.csv")
    assert status["rows"] == {"total": _COUNT, "accepted": _COUNT, "rejected": 0}
    return tag


@pytest_asyncio.fixture
async def reader(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    scopes = ["query", "read", "pii"]
    created = await create_user(admin, f"reader-{new_id()}", credits=100, plan="unlimited", scopes=scopes)
    async with open_client(stack, created["api_key"], answered) as client:
        yield client


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/query", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def emails(client: httpx.AsyncClient, tag: str, **body: Any) -> set[int]:
    """The numbers of the people found."""
    filters = {"source": tag} | body.pop("filters", {})
    found = await ask(client, filters=filters, select=["email"], limit=1000, **body)
    assert found["metadata"]["total_records"] == len(found["data"])
    return {int(row["email"].split("@")[0].rpartition("-")[2]) for row in found["data"]}


async def test_an_answer_has_the_rows_the_total_and_the_charge(reader: httpx.AsyncClient, loaded: str) -> None:
    found = await ask(reader, filters={"source": loaded}, sort="record_ts", limit=2, offset=1)
    metadata = found["metadata"]
    assert metadata["total_records"] == _COUNT
    assert (metadata["returned"], metadata["credits_used"], metadata["credits_remaining"]) == (2, 1, 99)
    assert (metadata["dataset"], metadata["cached"]) == ("people", False)
    assert metadata["next_cursor"]
    assert metadata["response_time"] > 0
    first = found["data"][0]
    assert first["email"] == f"{loaded}-1@example.com"
    assert first["record_ts"] == "2026-01-01T00:00:01.000000Z"
    assert (first["country"], first["age"], first["state"]) == ("IN", 1, None)


async def test_a_person_is_found_by_address_or_number_however_it_is_written(
    reader: httpx.AsyncClient, loaded: str
) -> None:
    assert await emails(reader, loaded, filters={"email": f" {loaded.upper()}-7@EXAMPLE.com"}) == {7}
    assert await emails(reader, loaded, filters={"phone": "+91 98765 00008"}) == {8}
    assert await emails(reader, loaded, filters={"country": "india", "phone": "098765-00009"}) == {9}
    assert await emails(reader, loaded, filters={"email": f"{loaded}-9999@example.com"}) == set()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"filters": {"age": 5}}, {5, 95, 185, 275}),
        ({"filters": {"age": {"gte": 88}}}, {88, 89, 178, 179, 268, 269}),
        ({"filters": {"age": {"gt": 1, "lt": 3}}}, {2, 92, 182, 272}),
        ({"filters": {"age": [0, 1]}}, {0, 1, 90, 91, 180, 181, 270, 271}),
        ({"filters": {"age": {"nin": list(range(1, 90))}}}, {0, 90, 180, 270}),
        ({"filters": {"city": {"ne": "Delhi"}, "age": 0}}, set()),
        ({"filters": {"city": {"prefix": "Mum"}, "age": 1}}, {1, 91, 181, 271}),
        ({"filters": {"last_name": {"contains": "%_\\ '"}, "age": 0}}, {0, 90, 180, 270}),
        ({"filters": {"last_name": {"contains": "0_"}}}, set()),
        ({"filters": {"state": {"is_null": True}, "age": 0}}, {0, 90, 180, 270}),
        ({"range": {"record_ts": {"from": "2026-01-01T00:00:01Z", "to": "2026-01-01T01:00:03+01:00"}}}, {1, 2, 3}),
        ({"fuzzy": {"first_name": {"query": "PRATH"}}, "filters": {"age": 5}}, {5, 95, 185, 275}),
        ({"fuzzy": {"first_name": {"query": "zoË"}}, "filters": {"age": 6}}, {6, 96, 186, 276}),
    ],
)
async def test_each_way_to_ask_finds_its_rows(
    reader: httpx.AsyncClient, loaded: str, body: dict[str, Any], expected: set[int]
) -> None:
    assert await emails(reader, loaded, **body) == expected


async def test_pages_cover_every_row_once(reader: httpx.AsyncClient, loaded: str) -> None:
    pages = [
        await ask(reader, filters={"source": loaded}, sort="city DESC", select=["email"], limit=70, offset=offset)
        for offset in range(0, _COUNT + 70, 70)
    ]
    assert [page["metadata"]["returned"] for page in pages] == [70, 70, 70, 70, 20, 0]
    assert {page["metadata"]["total_records"] for page in pages} == {_COUNT}
    assert len({row["email"] for page in pages for row in page["data"]}) == _COUNT


async def test_no_total_is_counted_when_none_is_wanted(reader: httpx.AsyncClient, loaded: str) -> None:
    found = await ask(reader, filters={"source": loaded}, limit=3, count="none")
    assert (found["metadata"]["total_records"], found["metadata"]["returned"]) == (None, 3)


@pytest.mark.parametrize(
    "text",
    ["' OR 1=1 --", "'; DROP TABLE people; --", "\\", "\\'", "{p0:String}", "%", "\n\t\r", "`", "ünï😀", "a\\nb"],
)
async def test_sql_in_a_value_is_only_a_value(reader: httpx.AsyncClient, loaded: str, text: str) -> None:
    filters = {"source": loaded, "last_name": {"in": [text + "x", text + "'y"]}, "city": {"ne": text + "z"}}
    found = await ask(reader, filters=filters, fuzzy={"first_name": {"query": text + "q"}})
    assert found["data"] == []
    refused = await reader.post("/v1/query", json={"filters": {text: 1}, "select": [text], "sort": text})
    assert refused.status_code == 422


async def test_a_row_of_numbers_is_found_by_its_identity(reader: httpx.AsyncClient, admin: httpx.AsyncClient) -> None:
    header = "year,month,day,carrier,flight,origin,dest,time_hour,distance\n"
    number = int(new_id().hex[-7:], 16)
    rows = [f"2013,1,{day},UA,{number},EWR,IAH,2013-01-{day:02d}T05:00:00Z,{day}.5\n" for day in range(1, 10)]
    await load(admin, "flights", (header + "".join(rows)).encode(), "flights.csv")
    identity = {"carrier": "UA", "flight": number, "origin": "EWR", "dest": "IAH", "time_hour": "2013-01-03T05:00:00Z"}
    found = await ask(reader, dataset="flights", filters=identity, select=["day", "distance"])
    assert (found["data"], found["metadata"]["total_records"]) == ([{"day": 3, "distance": 3.5}], 1)
    assert len((await ask(reader, dataset="flights", filters={"flight": [number]}))["data"]) == 9


async def test_credits_run_out_exactly(payer: httpx.AsyncClient, loaded: str) -> None:
    answers = await asyncio.gather(
        *(payer.post("/v1/query", json={"filters": {"source": loaded}, "limit": 1}) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [402] * 10
    refused = next(answer for answer in answers if answer.status_code == 402).json()
    assert refused["code"] == "insufficient_credits"
    assert refused["details"] == {"available": 0, "needed": 1}


async def test_a_repeat_gets_the_same_bytes_and_costs_nothing(payer: httpx.AsyncClient, loaded: str) -> None:
    body = {"filters": {"source": loaded}, "limit": 5}
    headers = {"Idempotency-Key": f"key-{new_id()}"}
    first = await payer.post("/v1/query", json=body, headers=headers)
    assert first.status_code == 200, first.text

    async def repeated() -> httpx.Response | None:
        again = await payer.post("/v1/query", json={**body, "offset": 0}, headers=headers)
        assert again.status_code in {200, 409}, again.text
        return again if again.status_code == 200 else None

    again = await until("the charge to be settled", repeated)
    assert again is not None
    assert again.content == first.content
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    other = await payer.post("/v1/query", json={**body, "limit": 6}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert (await ask(payer, limit=1))["metadata"]["credits_remaining"] == 8


async def test_requests_with_one_key_run_once(payer: httpx.AsyncClient, loaded: str) -> None:
    headers = {"Idempotency-Key": f"key-{new_id()}"}
    body = {"filters": {"source": loaded}, "limit": 5}
    answers = await asyncio.gather(*(payer.post("/v1/query", json=body, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 409)
    assert (await ask(payer, limit=1))["metadata"]["credits_remaining"] == 8


async def test_a_receipt_says_what_a_query_cost(
    payer: httpx.AsyncClient, reader: httpx.AsyncClient, loaded: str
) -> None:
    query_id = (await ask(payer, filters={"source": loaded}, limit=7))["metadata"]["query_id"]

    async def settled() -> dict[str, Any] | None:
        receipt: dict[str, Any] = (await payer.get(f"/v1/queries/{query_id}")).json()
        return receipt if receipt["state"] == "captured" else None

    receipt = await until("the receipt", settled)
    assert receipt is not None
    assert (receipt["rows"], receipt["credits_held"], receipt["credits_used"]) == (7, 1, 1)
    assert (await reader.get(f"/v1/queries/{query_id}")).status_code == 404


async def test_what_is_refused_costs_nothing(payer: httpx.AsyncClient) -> None:
    for body in ({"limit": 0}, {"filters": {"nope": 1}}, {"sort": "nope"}, {"max_credits": 0.5}, {"dataset": "nope"}):
        refused = await payer.post("/v1/query", json=body)
        assert refused.status_code == 422, refused.text
    assert (
        await payer.post("/v1/query", content=b"{", headers={"content-type": "application/json"})
    ).status_code == 400
    assert (await payer.get("/v1/credits")).json() == {"balance": 10, "held": 0, "available": 10}


@pytest.mark.usefixtures("loaded")
async def test_datasets_say_what_can_be_asked_and_for_how_much(reader: httpx.AsyncClient) -> None:
    listed = (await reader.get("/v1/datasets")).json()
    assert [dataset["name"] for dataset in listed] == ["flights", "people"]
    one = (await reader.get("/v1/datasets/people")).json()
    email = next(column for column in one["columns"] if column["name"] == "email")
    assert "prefix" in email["operators"]
    assert one["price"]["per_query"] == 1
    assert one["rows"] >= _COUNT
    assert one["freshness"]["version"] >= 1
    assert (await reader.get("/v1/datasets/nope")).status_code == 404
