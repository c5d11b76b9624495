"""How uploads end, and the dataset version that rises with their rows."""

from uuid import UUID

from common.postgres import Connection
from ingest.manifest_store import Store

FINISHED = frozenset({"completed", "completed_with_rejects", "failed", "undone", "duplicate"})
_ERROR_CHARS_MAX = 1000


class Endings(Store):
    async def fail(self, upload_id: UUID, error: str) -> bool:
        """End an upload with a reason. Its content may be sent again. False: it had ended already."""
        async with self.connection() as connection, connection.transaction():
            failed = await connection.fetchrow(_FAIL, upload_id, error[:_ERROR_CHARS_MAX])
            if failed is None:
                return False
            if await connection.fetchval(_ANY_ROWS, upload_id):
                await raise_version(connection, failed["dataset"])
            return True


_ANY_ROWS = "SELECT EXISTS (SELECT FROM ingest.chunks WHERE upload_id = $1 AND rows_accepted > 0)"
# A file of which nothing was accepted has failed, and says so; its content may be sent again after the declaration
# has changed.
_FINISH = """
      WITH sums AS (
           SELECT coalesce(sum(c.rows_accepted), 0) AS accepted, coalesce(sum(c.rows_rejected), 0) AS rejected,
                  coalesce(sum(coalesce(c.rows_planned, c.rows_accepted + c.rows_rejected)), 0) AS total
             FROM ingest.uploads u
        LEFT JOIN ingest.chunks c ON c.upload_id = u.upload_id AND c.generation = u.generation
            WHERE u.upload_id = $1)
    UPDATE ingest.uploads
       SET state = CASE WHEN rejected = 0 THEN 'completed'
                        WHEN accepted = 0 THEN 'failed'
                        ELSE 'completed_with_rejects' END,
           live = accepted > 0 OR rejected = 0,
           error = CASE WHEN accepted = 0 AND rejected > 0 THEN 'all ' || rejected || ' rows were rejected'
                        WHEN accepted = 0 THEN 'the file has no rows' END,
           rows_total = total, rows_accepted = accepted, rows_rejected = rejected, finished_at = now()
      FROM sums
     WHERE upload_id = $1 AND state = 'loading'
 RETURNING state, dataset, accepted
"""
_FAIL = """
    UPDATE ingest.uploads SET state = 'failed', live = false, error = $2, finished_at = now()
     WHERE upload_id = $1 AND state IN ('planning', 'loading')
 RETURNING dataset
"""
_RAISE_VERSION = """
    INSERT INTO ingest.dataset_versions AS v (dataset, version, raised_at) VALUES ($1, 1, now())
    ON CONFLICT (dataset) DO UPDATE SET version = v.version + 1, raised_at = now()
      RETURNING pg_notify('dataset_version', json_build_object('dataset', dataset, 'version', version)::text)
"""


async def finish_upload(connection: Connection, upload_id: UUID) -> str | None:
    ended = await connection.fetchrow(_FINISH, upload_id)
    if ended is None:
        return None
    if ended["accepted"]:
        await raise_version(connection, ended["dataset"])
    return str(ended["state"])


async def raise_version(connection: Connection, dataset: str) -> None:
    await connection.fetchval(_RAISE_VERSION, dataset)
