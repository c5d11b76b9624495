"""The manifest in Postgres: which uploads there are, their chunks, and what became of them."""

from ingest.dataset_versions import raise_version
from ingest.manifest_chunks import Chunk, Chunks, Counts
from ingest.manifest_plans import PlannedChunk, Plans, Upload
from ingest.upload_end import FINISHED, Endings

__all__ = ["FINISHED", "Chunk", "Counts", "Manifest", "PlannedChunk", "Upload", "raise_version"]


class Manifest(Plans, Chunks, Endings):
    """Every method raises Transient when Postgres is away; whatever was under way is then done again."""
