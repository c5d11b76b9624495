"""The table that a declaration makes: what ClickHouse really does with keys, versions, tokens and changes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.clickhouse import open_clickhouse
from common.datasets import Dataset
from devstack.stack import Stack
from ingest.dataset_table import Origin, TableDiffers, encoded, ensure_table, load
from ingest.settings import Settings
from support.ingest_parts import dataset, loaded

ARRIVED = datetime(2026, 1, 2, tzinfo=UTC)
COLUMNS: dict[str, Any] = {
    "email": {"type": "string", "normalise": "email", "index": "exact"},
    "name": {"type": "string", "normalise": "name", "index": "text"},
    "age": {"type": "integer"},
    "amount": {"type": "decimal(9,2)"},
    "born": {"type": "date"},
    "active": {"type": "boolean"},
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
    await ensure_table(clickhouse, target)
    await put(
        clickhouse,
        target,
        "email,name,age,amount,born,active,record_ts,hobby\n"
        "a@x.org,Zoë,-9223372036854775808,1234567.89,1900-01-01,yes,1969-12-31T23:59:59.999999Z,go\n"
        "b@x.org,,,,,,,\n",
    )
    found = await rows_of(
        clickhouse,
        "SELECT email, name, age, toString(amount), toString(born), active, toString(record_ts), extra, upload_id, "
        "row_no FROM table_types FINAL ORDER BY row_no",
    )
    assert found == [
        (
            "a@x.org", "Zoë", -(2**63), "1234567.89", "1900-01-01", True, "1969-12-31 23:59:59.999999",
            '{"hobby":"go"}', "upload-1", 1,
        ),
        ("b@x.org", None, None, None, None, None, None, "", "upload-1", 2),
    ]  # fmt: skip


async def test_the_newest_version_of_an_identity_is_shown(clickhouse: AsyncClient) -> None:
    target = declared("table_newest")
    await ensure_table(clickhouse, target)
    await put(clickhouse, target, "email,age,record_ts\na@x.org,1,2026-01-05\nb@x.org,1,\nc@x.org,1,\nc@x.org,2,\n")
    await put(clickhouse, target, "email,age,record_ts\na@x.org,2,2026-01-04\nb@x.org,2,\n", sequence=2)
    query = "SELECT email, age FROM table_newest FINAL ORDER BY email"
    assert await rows_of(clickhouse, query) == [("a@x.org", 1), ("b@x.org", 2), ("c@x.org", 2)]


async def test_the_same_token_again_adds_nothing(clickhouse: AsyncClient) -> None:
    target = declared("table_tokens")
    await ensure_table(clickhouse, target)
    for _ in range(3):
        await put(clickhouse, target, "email,age\na@x.org,1\nb@x.org,2\n", token="the same")
    assert await rows_of(clickhouse, "SELECT count() FROM table_tokens") == [(2,)]


async def test_rows_without_identity_do_not_swallow_one_another(clickhouse: AsyncClient) -> None:
    target = declared("table_nameless")
    await ensure_table(clickhouse, target)
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
    await ensure_table(clickhouse, target)
    text = "email,name,age\na@x.org,Ada,1\n,Bob,2\n"
    await put(clickhouse, target, text)
    wider = declared("table_grows", columns=COLUMNS | {"city": {"type": "string", "index": "exact"}})
    assert any("city" in change for change in await ensure_table(clickhouse, wider))
    assert await ensure_table(clickhouse, wider) == []
    await put(clickhouse, wider, text, sequence=2)
    found = await rows_of(clickhouse, "SELECT name, upload_id, city FROM table_grows FINAL ORDER BY name")
    assert found == [("Ada", "upload-2", None), ("Bob", "upload-2", None)]


async def test_another_type_or_identity_is_refused_with_the_way_to_do_it(clickhouse: AsyncClient) -> None:
    await ensure_table(clickhouse, declared("table_fixed"))
    with pytest.raises(TableDiffers, match=r"column age is Nullable\(Int64\).*declare a column of another name"):
        await ensure_table(clickhouse, declared("table_fixed", columns=COLUMNS | {"age": {"type": "string"}}))
    with pytest.raises(TableDiffers, match=r"made with identity: email, .*identity: name.*declare another dataset"):
        await ensure_table(clickhouse, declared("table_fixed", identity=["name"]))
