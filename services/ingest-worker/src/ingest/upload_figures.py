"""Where uploads are, as a metric. Every worker shows the same figures: they are of the manifest, not its own."""

from common.metrics import gauge
from common.postgres import Pool

_RECENT = """
    SELECT state, count(*) AS uploads FROM ingest.uploads
     WHERE created_at > now() - interval '7 days' GROUP BY state
"""
_uploads = gauge("bigdata_uploads_by_state", "Uploads of the last seven days, by where they are now", "state")


async def watch_uploads(postgres: Pool) -> None:
    counts = {row["state"]: row["uploads"] for row in await postgres.fetch(_RECENT)}
    _uploads.clear()  # a state that nothing is in any more would keep its last figure
    for state, uploads in counts.items():
        _uploads.labels(state).set(uploads)
