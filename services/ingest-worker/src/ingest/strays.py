"""Rows of uploads that are not there: a loader that was frozen in mid-insert may wake after its upload was undone, and
bring a block that nobody expects. Such an upload is taken back once more.
"""

from dataclasses import dataclass
from uuid import UUID

from clickhouse_connect.driver.asyncclient import AsyncClient

from common.datasets import Datasets
from common.logs import get_logger
from ingest.manifest import Manifest
from ingest.undo_begin import clear_failed
from ingest.warehouse import outages_are_transient

_log = get_logger(__name__)


@dataclass(frozen=True)
class Strays:
    manifest: Manifest
    clickhouse: AsyncClient
    datasets: Datasets

    async def look(self) -> None:
        """Reads one small column of every history. What is found becomes a job."""
        for dataset in self.datasets.values():
            async with outages_are_transient():
                found = await self.clickhouse.query(_UPLOADS_IN.format(history=dataset.history))
            there = [one for row in found.result_rows if (one := _upload_id(str(row[0])))]
            async with self.manifest.transaction() as connection:
                for row in await connection.fetch(_NOT_THERE, there):
                    _log.warning("rows of an upload that is not there", upload_id=str(row["upload_id"]))
                    await clear_failed(connection, dataset.name, row["upload_id"])


_UPLOADS_IN = "SELECT DISTINCT upload_id FROM {history}"
_NOT_THERE = """
    SELECT upload_id FROM ingest.uploads u
     WHERE upload_id = ANY($1::uuid[]) AND state IN ('undone', 'failed')
       AND NOT EXISTS (SELECT FROM ingest.jobs j WHERE j.upload_id = u.upload_id AND j.state = 'waiting')
"""


def _upload_id(text: str) -> UUID | None:
    """Rows of the records topic have ids of another kind."""
    try:
        return UUID(text)
    except ValueError:
        return None
