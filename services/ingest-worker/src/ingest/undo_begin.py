"""The first step of an undo, in the transaction of whatever causes it: a command, or a load that failed."""

from uuid import UUID

from common.ids import new_id
from common.postgres import Connection
from ingest.dataset_versions import exclude


class Refused(Exception):
    """A command that cannot be done as things are; the text says why, to whoever asked."""


_LOCK = "SELECT dataset, state FROM ingest.uploads WHERE upload_id = $1 FOR UPDATE"
# Not live from now on: the same content may be sent again at once, under an id of its own.
_UNDOING = "UPDATE ingest.uploads SET state = 'undoing', live = false, finished_at = NULL WHERE upload_id = $1"
_ADD_JOB = "INSERT INTO ingest.jobs (job_id, kind, dataset, upload_id) VALUES ($1, 'undo', $2, $3)"


async def begin_undo(connection: Connection, upload_id: UUID) -> None:
    """Step 1, in the transaction of whatever causes it. Raises Refused for an upload that is not there to be undone."""
    upload = await connection.fetchrow(_LOCK, upload_id)
    if upload is None or upload["state"] == "duplicate":
        raise Refused("this upload loaded nothing, there is nothing to undo")
    if upload["state"] in {"planning", "loading"}:
        raise Refused("this upload is still being loaded, undo it when it has ended")
    if upload["state"] in {"undoing", "undone"}:
        raise Refused("this upload was undone already")
    await connection.execute(_UNDOING, upload_id)
    await exclude(connection, upload["dataset"], upload_id)


async def clear_failed(connection: Connection, dataset: str, upload_id: UUID) -> None:
    """A load that failed leaves nothing behind: the state stays, the rows go."""
    await exclude(connection, dataset, upload_id)
    await connection.execute(_ADD_JOB, new_id(), dataset, upload_id)
