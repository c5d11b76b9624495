"""How uploads end: in one transaction with the dataset version that rises, and with what their end sets off."""

from uuid import UUID

from common.postgres import Connection
from common.redaction import clean
from ingest.dataset_versions import raise_version
from ingest.manifest_store import Store
from ingest.undo_begin import clear_failed

FINISHED = frozenset({"completed", "completed_with_rejects", "failed", "undone", "duplicate"})
_ERROR_CHARS_MAX = 1000


class Endings(Store):
    async def fail(self, upload_id: UUID, error: str, chunk_no: int | None = None) -> bool:
        """End an upload with a reason, for the fault of a chunk. Its content may be sent again; what was loaded of it
        is taken back. False: it had ended already.
        """
        async with self.connection() as connection, connection.transaction():
            await connection.execute(_STOPPED, upload_id, chunk_no)
            # It may quote the file; what Postgres could not store would leave the upload without an end.
            failed = await connection.fetchrow(_FAIL, upload_id, clean(error, _ERROR_CHARS_MAX))
            if failed is None:
                return False
            if await connection.fetchval(_ANY_BEGUN, upload_id):
                await clear_failed(connection, failed["dataset"], upload_id)
            return True


_STOPPED = "UPDATE ingest.chunks SET running = false WHERE upload_id = $1 AND chunk_no = $2"
_ANY_BEGUN = "SELECT EXISTS (SELECT FROM ingest.chunks WHERE upload_id = $1 AND begun > 0)"
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
 RETURNING state, dataset, accepted, replaces
"""
_CORRECTED = "UPDATE ingest.uploads SET corrected_by = $2 WHERE upload_id = $1"
_FAIL = """
    UPDATE ingest.uploads SET state = 'failed', live = false, error = $2, finished_at = now()
     WHERE upload_id = $1 AND state IN ('planning', 'loading')
 RETURNING dataset
"""


async def finish_upload(connection: Connection, upload_id: UUID) -> str | None:
    ended = await connection.fetchrow(_FINISH, upload_id)
    if ended is None:
        return None
    if ended["accepted"]:
        await raise_version(connection, ended["dataset"])
    if ended["replaces"] and ended["state"] != "failed":
        await connection.execute(_CORRECTED, ended["replaces"], upload_id)
    return str(ended["state"])
