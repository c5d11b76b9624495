"""The version of a dataset, which kills older cached answers, and the uploads that its readers leave out."""

from uuid import UUID

from common.postgres import Connection

_RAISE_VERSION = """
    INSERT INTO ingest.dataset_versions AS v (dataset, version, raised_at) VALUES ($1, 1, now())
    ON CONFLICT (dataset) DO UPDATE SET version = v.version + 1, raised_at = now()
      RETURNING pg_notify('dataset_version', json_build_object('dataset', dataset, 'version', version)::text)
"""
_EXCLUDE = """
    INSERT INTO ingest.dataset_versions AS v (dataset, version, raised_at, excluded) VALUES ($1, 0, now(), ARRAY[$2])
    ON CONFLICT (dataset) DO UPDATE SET excluded = array_append(array_remove(v.excluded, $2), $2)
"""
_INCLUDE = "UPDATE ingest.dataset_versions SET excluded = array_remove(excluded, $2) WHERE dataset = $1"


async def raise_version(connection: Connection, dataset: str) -> None:
    await connection.fetchval(_RAISE_VERSION, dataset)


async def exclude(connection: Connection, dataset: str, upload_id: UUID) -> None:
    """Readers leave the rows of this upload out."""
    await connection.execute(_EXCLUDE, dataset, str(upload_id))
    await raise_version(connection, dataset)


async def include(connection: Connection, dataset: str, upload_id: UUID) -> None:
    """Nothing of this upload is left to be left out."""
    await connection.execute(_INCLUDE, dataset, str(upload_id))
    await raise_version(connection, dataset)
