"""An announced upload becomes chunks: claim it, find out what it is, cut it at record boundaries, tell the loaders."""

import asyncio

from aiokafka import ConsumerRecord
from obstore.store import ObjectStore

from common.datasets import Dataset, Datasets
from common.errors import Permanent
from common.events import UploadReceived, event_of
from common.faultpoints import faultpoint
from common.logs import get_logger
from common.metrics import counter
from ingest.cutting import cuts
from ingest.examine import Said, examined
from ingest.formats.layout import Layout
from ingest.manifest import FINISHED, Manifest, PlannedChunk, Upload
from ingest.settings import Settings
from ingest.source import BucketObject
from ingest.turns import Turns

_log = get_logger(__name__)
_uploads = counter("bigdata_uploads_total", "Uploads planned, by what came of it", "outcome")


class Planner:
    def __init__(
        self,
        manifest: Manifest,
        bucket: ObjectStore,
        turns: Turns,
        datasets: Datasets,
        settings: Settings,
    ) -> None:
        self._manifest, self._bucket, self._turns = manifest, bucket, turns
        self._datasets, self._settings = datasets, settings

    async def take(self, record: ConsumerRecord) -> None:
        """Raises Transient: the same again later; Permanent: a dead letter. A file at fault is neither, it fails."""
        event = event_of(UploadReceived, record.value)
        log = _log.bind(upload_id=str(event.upload_id), dataset=event.dataset)
        upload = await self._manifest.claim(event)
        if upload.state == "planning":
            try:
                await self._plan(upload, event.record)
            except Permanent as exc:
                await self._manifest.fail(upload.upload_id, str(exc))
                _uploads.labels("failed").inc()
                log.warning("upload failed", reason=str(exc))
                return
            _uploads.labels("planned").inc()
        elif upload.state == "duplicate":
            _uploads.labels("duplicate").inc()
        if upload.state not in FINISHED:
            await self._turns.announce(upload)
        log.info("upload planned", state=upload.state, filename=event.filename, size=event.size)

    async def _plan(self, upload: Upload, record: str | None) -> None:
        dataset = self._datasets.get(upload.dataset)
        if dataset is None:
            raise Permanent(f"there is no dataset {upload.dataset}")
        layout, chunks = await asyncio.to_thread(self._cut, upload, dataset, record)
        faultpoint("ingest.planned")
        await self._manifest.planned(upload, layout, chunks)

    def _cut(self, upload: Upload, dataset: Dataset, record: str | None) -> tuple[Layout, list[PlannedChunk]]:
        """Blocking. Raises Permanent for what breaks our readers too: the same bytes would break them for ever, and
        nothing behind them would be planned.
        """
        stored = BucketObject(self._bucket, upload.object_key, upload.size)
        said = Said(upload.filename, upload.declared_format, record)
        try:
            layout = examined(stored, dataset, self._settings.limits, said)
            return layout, list(cuts(layout, stored, self._settings.chunk_bytes))
        except (ValueError, TypeError, LookupError, ArithmeticError) as exc:
            _log.exception("a file broke its reader", upload_id=str(upload.upload_id))
            raise Permanent(f"the file cannot be read: it broke its reader ({type(exc).__name__})") from exc
