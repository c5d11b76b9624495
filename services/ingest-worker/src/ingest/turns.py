"""Which chunks may be loaded now: a few of each upload, so that uploads take turns.

Loaders take chunks in the order of the topic. If all chunks of a huge file stood there, a small one would wait behind
them; so at most `chunks_ahead` of an upload are announced and not done, and each that is done announces the next.
"""

import asyncio
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from common.errors import Transient
from common.events import ChunkPlanned
from common.topics import INGEST_CHUNKS
from ingest.manifest import Manifest
from ingest.manifest_plans import OfUpload
from ingest.settings import Settings


@dataclass(frozen=True)
class Turns:
    manifest: Manifest
    producer: AIOKafkaProducer
    settings: Settings

    async def announce(self, upload: OfUpload) -> None:
        """Publish the chunks whose turn it is and that no loader may know of. A second time does no harm: the manifest
        decides. Raises Transient; what was not announced is announced with the upload itself, by the watch.
        """
        settings = self.settings
        chunk_nos = await self.manifest.chunks_to_announce(
            upload, stalled_s=settings.chunk_stalled_s, ahead=settings.chunks_ahead
        )
        try:
            await asyncio.gather(*(self._publish(upload, chunk_no) for chunk_no in chunk_nos))
        except (KafkaError, OSError) as exc:
            await self.manifest.announcement_failed(upload, chunk_nos)
            raise Transient(f"chunks cannot be announced: {exc!r}") from exc

    async def _publish(self, upload: OfUpload, chunk_no: int) -> None:
        event = ChunkPlanned(upload_id=upload.upload_id, generation=upload.generation, chunk_no=chunk_no)
        key = f"{upload.upload_id}:{chunk_no}".encode()
        await self.producer.send_and_wait(INGEST_CHUNKS.name, event.encoded(), key)
