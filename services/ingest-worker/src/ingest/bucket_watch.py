"""The bucket is the truth, an event only a fast notice: every object without a finished manifest is announced again."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypedDict, cast
from uuid import UUID

import obstore
from aiokafka import AIOKafkaProducer
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore
from pydantic import ValidationError

from common.bucket import UPLOADS, announcement_key
from common.clock import Clock
from common.errors import Transient
from common.events import UploadReceived
from common.logs import get_logger
from ingest.announce import announce
from ingest.manifest import Manifest
from ingest.settings import Settings


class Meta(TypedDict):
    """What a listing says of an object; obstore's own type exists for type checkers only."""

    path: str
    last_modified: datetime
    size: int


_log = get_logger(__name__)
_ANNOUNCEMENT = "/received.json"
_LOOKED_UP_AT_ONCE = 1000
_RECENT = timedelta(hours=1)


@dataclass
class BucketWatch:
    manifest: Manifest
    bucket: ObjectStore
    producer: AIOKafkaProducer
    clock: Clock
    settings: Settings
    _announced: dict[UUID, float] = field(default_factory=dict)  # when, by the monotonic clock

    async def look_at_recent(self) -> None:
        """Uploads of the last hour: keys sort by time, so the listing begins there."""
        since = self.clock.now() - _RECENT
        await self._look_at_uploads(f"{UPLOADS}{_first_id_of(int(since.timestamp() * 1000))}")

    async def look_at_all(self) -> None:
        await self._look_at_uploads(None)

    async def _look_at_uploads(self, after: str | None) -> None:
        old_enough = self.clock.now() - timedelta(seconds=self.settings.reannounce_after_s)
        waiting: list[UUID] = []
        for page in await asyncio.to_thread(self._pages, UPLOADS, after):
            for meta in page:
                path = meta["path"]
                if path.endswith(_ANNOUNCEMENT) and meta["last_modified"] <= old_enough:
                    waiting += _id_of(path)
            if len(waiting) >= _LOOKED_UP_AT_ONCE:
                await self._announce_unfinished(waiting)
                waiting = []
        await self._announce_unfinished(waiting)

    def _pages(self, prefix: str, after: str | None) -> list[list[Meta]]:
        try:
            return [cast("list[Meta]", list(page)) for page in obstore.list(self.bucket, prefix, offset=after)]
        except (OSError, BaseError) as exc:
            raise Transient(f"the bucket does not answer: {exc}") from exc

    async def _announce_unfinished(self, upload_ids: list[UUID]) -> None:
        if not upload_ids:
            return
        ended = await self.manifest.finished(upload_ids)
        now = self.clock.monotonic()
        for upload_id in upload_ids:
            if upload_id in ended:
                self._announced.pop(upload_id, None)
            elif now - self._announced.get(upload_id, float("-inf")) >= self.settings.reannounce_after_s:
                await self._announce_again(upload_id)
                self._announced[upload_id] = now

    async def _announce_again(self, upload_id: UUID) -> None:
        key = announcement_key(upload_id)
        try:
            found = await obstore.get_async(self.bucket, key)
            event = UploadReceived.model_validate_json(bytes(await found.bytes_async()))
        except (FileNotFoundError, NotFoundError):
            return
        except ValidationError:
            _log.warning("an announcement in the bucket cannot be read", key=key)
            return
        _log.info("announced again", upload_id=str(upload_id))
        await announce(self.producer, event)


def _id_of(path: str) -> list[UUID]:
    try:
        return [UUID(path.removeprefix(UPLOADS).removesuffix(_ANNOUNCEMENT))]
    except ValueError:
        return []


def _first_id_of(milliseconds: int) -> UUID:
    """The smallest version 7 id of this moment."""
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)
