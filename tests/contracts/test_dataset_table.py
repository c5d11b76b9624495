"""The table that a declaration makes: what ClickHouse really does with keys, versions, tokens and changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.clickhouse import open_clickhouse
from common.datasets import Dataset
from common.errors import Transient
from devstack.stack import Stack
from ingest.dataset_table import Origin, encoded, load
from ingest.settings import Settings
from ingest.table_schema import TableDiffers, ensure_tables
from support.ingest_parts import dataset, loaded
from support.polling import until

ARRIVED = datetime(2026, 1, 2, tzinfo=UTC)
COLUMNS: dict[str, Any] = {
    "email": {"type": "string", "normalise": "email", "index": "exact"},
    "name": {"type": "string", "normalise": "name", "index": "text"},
    "age": {"type": "integer"},
    "amount": {"type": "decimal(9,2)"},
    "born": {"type": "date"},
    "active": {"type": "boolean"},
    "state": {"type": "enum", "values": ["new", "Used"]},
    "country": {"type": "country"},
    "scores": {"type": "list(integer)"},
    "seen": {"type": "list(timestamp)"},
    "prices": {"type": "list(decimal(6,2))"},
    "record_ts": {"type": "timestamp"},
}


@pytest_asyncio.fixture
async def clickhouse(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    """As the user that the loader is."""
    for name, value in servers.environment("ingest-worker").items():
        monkeypatch.setenv(name, value)
    async with open_clickhouse(Settings()) as client:
        yield client


def declared(name: str, **changes: Any) -> Dataset:
    return dataset(**{"name": name, "identity": ["email"], "columns": COLUMNS} | changes)


async def put(client: AsyncClient, target: Dataset, text: str, *, sequence: int = 1, token: str = "") -> None:
    rows = loaded(text.encode(), target)
    block = encoded(rows, Origin(f"upload-{sequence}", sequence, ARRIVED + timedelta(seconds=sequence)))
    await load(client, target, block, token or block.digest)


async def rows_of(client: AsyncClient, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in (await client.query(query)).result_rows]


async def test_every_type_comes_back_as_it_was_sent(clickhouse: AsyncClient) -> None:
    target = declared("table_types")
    await ensure_tables(clickhouse, target)
    await put(
        clickhouse,
        target,
        "email,name,age,amount,born,active,record_ts,hobby,state,country,scores,seen,prices\n"
        "a@x.org,Zoë,-9223372036854775808,1234567.89,1900-01-01,yes,1969-12-31T23:59:59.999999Z,go,USED,germany,"
        "1;2,2026-01-01T01:00:00+01:00,9999.99; 1\n"
        "b@x.org,,,,,,,,,,,,\n",
    )
    found = await rows_of(
        clickhouse,
        "SELECT email, name, age, toString(amount), toString(born), active, toString(record_ts), extra, upload_id, "
        "row_no, state, country, scores, toString(seen), toString(prices) FROM table_types FINAL ORDER BY row_no",
    )
    assert found == [
        (
            "a@x.org", "Zoë", -(2**63), "1234567.89", "1900-01-01", True, "1969-12-31 23:59:59.999999",
            '{"hobby":"go"}', "upload-1", 1, "Used", "DE", [1, 2], "['2026-01-01 00:00:00.000000']", "[9999.99,1]",
        ),
        ("b@x.org", None, None, None, None, None, None, "", "upload-1", 2, None, None, [], "[]", "[]"),
    ]  # fmt: skip


async def test_the_newest_version_of_an_identity_is_shown(clickhouse: AsyncClient) -> None:
    target = declared("table_newest")
    await ensure_tables(clickhouse, target)
    await put(clickhouse, target, "email,age,record_ts\na@x.org,1,2026-01-05\nb@x.org,1,\nc@x.org,1,\nc@x.org,2,\n")
    await put(clickhouse, target, "email,age,record_ts\na@x.org,2,2026-01-04\nb@x.org,2,\n", sequence=2)
    query = "SELECT email, age FROM table_newest FINAL ORDER BY email"
    assert await rows_of(clickhouse, query) == [("a@x.org", 1), ("b@x.org", 2), ("c@x.org", 2)]


async def test_the_same_token_again_adds_nothing(clickhouse: AsyncClient) -> None:
    target = declared("table_tokens")
    await ensure_tables(clickhouse, target)
    for _ in range(3):
        await put(clickhouse, target, "email,age\na@x.org,1\nb@x.org,2\n", token="the same")
    for table in ("table_tokens", "table_tokens_history"):
        assert await rows_of(clickhouse, f"SELECT count() FROM {table}") == [(2,)]  # noqa: S608 - tables of this test


async def test_rows_without_identity_do_not_swallow_one_another(clickhouse: AsyncClient) -> None:
    target = declared("table_nameless")
    await ensure_tables(clickhouse, target)
    text = "name,age,hobby\nAda,1,\nAda,2,\nAda,,\nAda,1,go\nAda,1,\n"
    await put(clickhouse, target, text)
    query = "SELECT name, age, extra FROM table_nameless FINAL ORDER BY row_no"
    shown = await rows_of(clickhouse, query)
    # The last row is the first one again, to the letter.
    assert sorted(shown, key=str) == sorted(
        [("Ada", 2, ""), ("Ada", None, ""), ("Ada", 1, '{"hobby":"go"}'), ("Ada", 1, "")], key=str
    )


async def test_a_new_column_is_added_and_old_rows_keep_their_keys(clickhouse: AsyncClient) -> None:
    target = declared("table_grows")
    await ensure_tables(clickhouse, target)
    text = "email,name,age\na@x.org,Ada,1\n,Bob,2\n"
    await put(clickhouse, target, text)
    added = {"city": {"type": "string", "index": "exact"}, "tags": {"type": "list(string)"}}
    wider = declared("table_grows", columns=COLUMNS | added)
    changes = await ensure_tables(clickhouse, wider)
    assert any("ADD INDEX" in change and "city" in change for change in changes)
    assert await ensure_tables(clickhouse, wider) == []
    await put(clickhouse, wider, text, sequence=2)
    await put(clickhouse, wider, "email,city,tags\nc@x.org,Rome,a;b\n", sequence=3)
    found = await rows_of(
        clickhouse, "SELECT name, upload_id, city, tags FROM table_grows FINAL ORDER BY row_no, email"
    )
    assert sorted(found, key=str) == [
        ("Ada", "upload-2", None, []),
        ("Bob", "upload-2", None, []),
        (None, "upload-3", "Rome", ["a", "b"]),
    ]


async def test_a_column_is_added_while_loads_run(clickhouse: AsyncClient) -> None:
    """By loaders that know the old declaration, and by those that know the new one."""
    target = declared("table_live")
    await ensure_tables(clickhouse, target)
    wider = declared("table_live", columns=COLUMNS | {"city": {"type": "string"}})
    stop = asyncio.Event()

    async def loading(sender: int) -> int:
        sent = 0
        while not stop.is_set():
            text = "".join(f"{sender}.{sent}.{number}@x.org,{number}\n" for number in range(50))
            await until("the rows to be taken", partial(taken, "email,age\n" + text, f"{sender}:{sent}"))
            sent += 1
        return sent * 50

    async def taken(text: str, token: str) -> bool:
        # An insert that began a moment before the change may be refused; the loader tries it again.
        with suppress(Transient):
            await put(clickhouse, target, text, token=token)
            return True
        return False

    loaders = [asyncio.create_task(loading(sender)) for sender in range(3)]
    await until("loads to run", lambda: rows_of(clickhouse, "SELECT 1 FROM table_live LIMIT 1"))
    await ensure_tables(clickhouse, wider)
    await put(clickhouse, wider, "email,city\nnew@x.org,Rome\n")
    stop.set()
    sent = sum(await asyncio.gather(*loaders)) + 1
    for table in ("table_live", "table_live_history"):
        found = await rows_of(clickhouse, f"SELECT count(), countIf(city = 'Rome') FROM {table}")  # noqa: S608 - as above
        assert found == [(sent, 1)]


async def test_an_index_that_is_declared_later_covers_old_rows(clickhouse: AsyncClient) -> None:
    await ensure_tables(clickhouse, declared("table_indexed"))
    named = declared("table_indexed", columns=COLUMNS | {"name": {"type": "string", "index": "exact"}})
    added, filled = await ensure_tables(clickhouse, named)
    assert added.startswith("ALTER TABLE table_indexed_history ADD INDEX IF NOT EXISTS name_exact ")
    assert filled == "ALTER TABLE table_indexed_history MATERIALIZE INDEX name_exact"
    assert await ensure_tables(clickhouse, named) == []


async def test_what_a_migration_that_died_left_is_completed(clickhouse: AsyncClient) -> None:
    target = declared("table_half")
    await ensure_tables(clickhouse, target)
    await clickhouse.command("DROP VIEW table_half_fill")
    await clickhouse.command("DROP TABLE table_half_history")
    await ensure_tables(clickhouse, target)
    await put(clickhouse, target, "email,age\na@x.org,1\n")
    assert await rows_of(clickhouse, "SELECT email FROM table_half FINAL") == [("a@x.org",)]


async def test_another_type_or_identity_is_refused_with_the_way_to_do_it(clickhouse: AsyncClient) -> None:
    await ensure_tables(clickhouse, declared("table_fixed"))
    with pytest.raises(TableDiffers, match=r"column age is Nullable\(Int64\).*declare a column of another name"):
        await ensure_tables(clickhouse, declared("table_fixed", columns=COLUMNS | {"age": {"type": "string"}}))
    with pytest.raises(TableDiffers, match=r"made with identity: email, .*identity: name.*declare another dataset"):
        await ensure_tables(clickhouse, declared("table_fixed", identity=["name"]))
