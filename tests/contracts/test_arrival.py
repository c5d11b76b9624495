"""Rows of tries that ended anywhere: a remembered token swallows the repeat, and still every row is there once."""

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.clickhouse import open_clickhouse
from common.ids import new_id
from devstack.stack import Stack
from ingest import dataset_table, quarantine
from ingest.arrival import Doubt
from ingest.dataset_table import Origin, encoded
from ingest.formats.batch import Fault
from ingest.formats.records import Dialect, pieces
from ingest.settings import Settings
from ingest.table_schema import ensure_tables
from support.ingest_parts import dataset, loaded

ROWS = 300


@pytest_asyncio.fixture
async def clickhouse(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncClient]:
    for name, value in servers.environment("ingest-worker").items():
        monkeypatch.setenv(name, value)
    async with open_clickhouse(Settings()) as client:
        yield client


async def numbers(client: AsyncClient, query: str) -> tuple[int, ...]:
    (row,) = (await client.query(query)).result_rows
    return tuple(int(value) for value in row)


# What a server that was killed may have kept of a block whose token it remembers.
@pytest.mark.parametrize(
    ("case", "lost"),
    [
        ("nothing", {"history": "1", "current": "1"}),
        ("history_only", {"current": "1"}),
        ("part_of_both", {"history": "row_no % 3 = 0", "current": "row_no % 2 = 0"}),
        ("everything", {}),
    ],
)
async def test_whatever_a_try_left_every_row_is_in_both_tables_once(
    clickhouse: AsyncClient, case: str, lost: dict[str, str]
) -> None:
    target = dataset(name=f"arrival_{case}", identity=["email"])
    await ensure_tables(clickhouse, target)
    upload = str(new_id())
    text = "email,age\n" + "".join(f"{number}@x.org,{number}\n" for number in range(ROWS))
    block = encoded(loaded(text.encode(), target), Origin(upload, 1, datetime.now(UTC)))
    await dataset_table.load(clickhouse, target, block, "token")
    for table, condition in lost.items():
        name = target.history if table == "history" else target.name
        await clickhouse.command(f"DELETE FROM {name} WHERE {condition}")  # noqa: S608 - tables of this test
    for _ in range(2):
        await dataset_table.load(clickhouse, target, block, "token", Doubt(upload, 1))
        for name in (target.history, f"{target.name} FINAL"):
            found = await numbers(clickhouse, f"SELECT count(), uniqExact(row_no), sum(age) FROM {name}")  # noqa: S608 - as above
            assert found == (ROWS, ROWS, sum(range(ROWS))), (case, name)


async def test_what_a_newer_row_has_replaced_is_not_missed(clickhouse: AsyncClient) -> None:
    """28: with a token that the tables do not know, as when their windows have forgotten it."""
    target = dataset(name="arrival_replaced", identity=["email"])
    await ensure_tables(clickhouse, target)
    uploads = [str(new_id()), str(new_id())]
    blocks = [
        encoded(loaded(b"email,age\na@x.org,%d\n" % number, target), Origin(upload, number, datetime.now(UTC)))
        for number, upload in enumerate(uploads, 1)
    ]
    for number, block in enumerate(blocks):
        await dataset_table.load(clickhouse, target, block, str(number))
    await clickhouse.command("OPTIMIZE TABLE arrival_replaced FINAL")
    await dataset_table.load(clickhouse, target, blocks[0], "0", Doubt(uploads[0], 1))
    assert await numbers(clickhouse, "SELECT count(), sum(age) FROM arrival_replaced") == (1, 2)


@pytest.mark.parametrize("lost", ["1", "row_no % 3 = 0", "0"])
async def test_rejects_are_exact_too(clickhouse: AsyncClient, lost: str) -> None:
    await quarantine.ensure_table(clickhouse)
    upload = new_id()
    (piece,) = pieces(io.BytesIO(b"a,b\n" * ROWS), Dialect(b'"', b","), at_most=ROWS)
    faults = [Fault(record, "integer_syntax", "age") for record in range(ROWS)]
    rejects = quarantine.encoded(faults, piece, dataset=dataset(), upload_id=upload, generation=1, chunk_no=0)
    await quarantine.keep(clickhouse, rejects, f"{upload}:q")
    await clickhouse.command(f"DELETE FROM quarantine WHERE upload_id = '{upload}' AND {lost}")  # noqa: S608 - as above
    await quarantine.keep(clickhouse, rejects, f"{upload}:q", Doubt(str(upload), 1))
    found = await numbers(
        clickhouse,
        f"SELECT count(), uniqExact(row_no) FROM quarantine WHERE upload_id = '{upload}'",  # noqa: S608 - as above
    )
    assert found == (ROWS, ROWS)
