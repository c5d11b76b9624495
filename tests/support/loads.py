"""Uploads loaded straight into manifest and tables, as a worker does it, without Kafka and bucket."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient

from common.clickhouse import open_clickhouse
from common.datasets import Dataset, Datasets
from common.events import UploadReceived
from common.ids import new_id
from common.migrations import migrate
from common.postgres import open_postgres
from devstack.stack import Stack
from ingest import dataset_table, quarantine
from ingest.dataset_table import Origin, encoded
from ingest.formats.layout import Layout
from ingest.formats.records import Place
from ingest.manifest import Counts, Manifest, PlannedChunk
from ingest.settings import Settings
from ingest.table_schema import ensure_tables
from support.ingest_parts import loaded

LAYOUT = Layout(format="csv", delimiter=",", quote='"', header=("email",), offset=6, line=2)


@dataclass(frozen=True)
class Stores:
    """What a worker has, over real servers."""

    manifest: Manifest
    clickhouse: AsyncClient
    settings: Settings

    async def begun(self, dataset: Dataset, content: bytes, *, replaces: UUID | None = None) -> UploadReceived:
        """An upload of one chunk that is planned."""
        upload_id = new_id()
        event = UploadReceived(
            upload_id=upload_id,
            dataset=dataset.name,
            object_key=f"uploads/{upload_id}/object",
            filename="a.csv",
            size=len(content),
            sha256=hashlib.sha256(dataset.name.encode() + content).hexdigest(),
            received_at=datetime.now(UTC),
            replaces=replaces,
        )
        upload = await self.manifest.claim(event)
        assert upload.state == "planning"
        await self.manifest.planned(upload, LAYOUT, [PlannedChunk(0, len(content), Place(), None)])
        return event

    async def load(self, dataset: Dataset, content: bytes, *, replaces: UUID | None = None) -> UUID:
        """The same, loaded to its end."""
        event = await self.begun(dataset, content, replaces=replaces)
        chunk = await self.manifest.begin(event.upload_id, 1, 0)
        assert chunk is not None
        rows = loaded(content, dataset)
        block = encoded(rows, Origin(str(event.upload_id), chunk.sequence, event.received_at))
        await dataset_table.load(self.clickhouse, dataset, block, f"{event.upload_id}:1:{block.digest}")
        assert await self.manifest.done(chunk, Counts(len(rows), 0, len(content)), {})
        return event.upload_id

    async def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in (await self.clickhouse.query(query, parameters=values)).result_rows]

    async def state(self, upload_id: UUID) -> dict[str, Any]:
        async with self.manifest.connection() as connection:
            row = await connection.fetchrow("SELECT * FROM ingest.uploads WHERE upload_id = $1", upload_id)
            assert row is not None
            return dict(row)

    async def excluded(self, dataset: Dataset) -> list[str]:
        async with self.manifest.connection() as connection:
            query = "SELECT excluded FROM ingest.dataset_freshness WHERE dataset = $1"
            return list(await connection.fetchval(query, dataset.name) or ())


@asynccontextmanager
async def open_stores(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    for name, value in servers.environment("ingest-worker").items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    await migrate(settings, "ingest", "ingest")
    async with open_postgres(settings) as pool, open_clickhouse(settings) as clickhouse:
        await quarantine.ensure_table(clickhouse)
        yield Stores(Manifest(pool), clickhouse, settings)


async def declared(stores: Stores, *datasets: Dataset) -> Datasets:
    """Their tables are made."""
    for dataset in datasets:
        await ensure_tables(stores.clickhouse, dataset)
    return Datasets({dataset.name: dataset for dataset in datasets})
