"""A dataset of a test's own that is big enough to be slow, behind a gateway whose way to ClickHouse can be cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.datasets import Dataset
from common.ids import new_id
from devstack.stack import Stack
from ingest.table_schema import ensure_tables
from support.proxied import Proxied, open_proxied
from support.query_reader import open_as
from support.repository import ROOT

ROWS = 900_000
_FILL = """
    INSERT INTO {history} (code, words, upload_id, row_no, version)
    SELECT toString(number), hex(sipHash128(number)), 'heavy', number, 1 FROM numbers({rows})
"""


@dataclass(frozen=True)
class Heavy:
    dataset: str
    gateway: Proxied
    stack: Stack

    async def running(self) -> int:
        """Queries on the dataset that ClickHouse is working on."""
        async with open_as(self.stack, "admin") as admin:
            found = await admin.query(
                "SELECT count() FROM system.processes WHERE position(query, {name:String}) > 0 "
                "AND position(query, 'processes') = 0",
                parameters={"name": self.dataset},
            )
            return int(found.result_rows[0][0])


@asynccontextmanager
async def open_heavy(stack: Stack, folder: Path, *, index: int, env: dict[str, str]) -> AsyncIterator[Heavy]:
    """A row costs a hundredth of a credit, a query one. Dropped at the end."""
    name = f"heavy_{new_id().hex[-10:]}"
    declared = {
        "name": name,
        "identity": ["code"],
        "columns": {"code": {"type": "string"}, "words": {"type": "string"}},
        "extra": "drop",
        "price": {"per_query": 1, "per_row": 0.001, "per_query_max": 1000},
    }
    for file in (ROOT / "configs/datasets").glob("*.yaml"):
        (folder / file.name).write_text(file.read_text())
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(declared))
    dataset = Dataset.model_validate(declared)
    async with open_as(stack, "ingest") as ingest:
        await ensure_tables(ingest, dataset)
        filled = _FILL.format(history=dataset.history, rows=ROWS)
        await ingest.command(filled, settings={"insert_deduplication_token": name})
        try:
            through = {"DATASETS_FOLDER": str(folder), **env}
            async with open_proxied(stack, index=index, env=through) as proxied:
                yield Heavy(name, proxied, stack)
        finally:
            for table in (f"{name}_fill", name, dataset.history):
                await ingest.command(f"DROP TABLE IF EXISTS {table}")
