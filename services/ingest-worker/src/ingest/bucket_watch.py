"""The bucket is the truth, an event only a fast notice: every object without a finished manifest is announced again,
and what data teams drop under inbox/<dataset>/ is announced for the first time.
"""

import asyncio
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypedDict, cast
from uuid import UUID

import obstore
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore
from pydantic import ValidationError

from common.bucket import INBOX, UPLOADS, announcement_key
from common.clock import Clock
from common.datasets import Datasets
from common.errors import Transient
from common.events import UploadReceived
from common.logs import get_logger
from common.topics import INGEST_UPLOADS
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
_HASHED_AT_ONCE = 8 << 20
_UNFINISHED_NAMES = (".tmp", ".part", ".partial", ".crdownload")


@dataclass
class BucketWatch:
    manifest: Manifest
    bucket: ObjectStore
    producer: AIOKafkaProducer
    datasets: Datasets
    clock: Clock
    settings: Settings
    _announced: dict[UUID, float] = field(default_factory=dict)  # when, by the monotonic clock
    _dropped: dict[str, tuple[int, str]] = field(default_factory=dict)  # inbox key to the size and time last seen
    _known: set[tuple[str, int, str]] = field(default_factory=set)  # inbox objects that have their announcement

    async def look_at_recent(self) -> None:
        """New drops, and uploads of the last hour: keys sort by time, so the listing begins there."""
        await self._look_at_inbox()
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
        await self._publish(event)

    async def _look_at_inbox(self) -> None:
        seen: dict[str, tuple[int, str]] = {}
        for page in await asyncio.to_thread(self._pages, INBOX, None):
            for meta in page:
                key, found = meta["path"], (meta["size"], meta["last_modified"].isoformat())
                seen[key] = found
                # Seen twice alike: whoever writes it is done.
                if self._dropped.get(key) == found and (key, *found) not in self._known and self._is_wanted(key):
                    await self._announce_drop(key, meta)
                    self._known.add((key, *found))
        self._dropped = seen
        self._known = {known for known in self._known if known[0] in seen}

    def _is_wanted(self, key: str) -> bool:
        dataset, _, name = key.removeprefix(INBOX).partition("/")
        if not name or "/" in name or name.startswith(".") or name.endswith(_UNFINISHED_NAMES):
            return False
        if dataset not in self.datasets:
            _log.warning("a file was dropped for a dataset that is not declared", key=key)
            return False
        return True

    async def _announce_drop(self, key: str, meta: Meta) -> None:
        """The announcement is written first: from there on the object is never forgotten."""
        dataset, _, name = key.removeprefix(INBOX).partition("/")
        upload_id = _id_of_drop(key, meta)
        try:
            await obstore.head_async(self.bucket, announcement_key(upload_id))
        except (FileNotFoundError, NotFoundError):
            pass
        else:
            return
        event = UploadReceived(
            upload_id=upload_id,
            dataset=dataset,
            object_key=key,
            filename=name,
            size=meta["size"],
            sha256=await asyncio.to_thread(self._sha256, key),
            received_at=meta["last_modified"],
        )
        await obstore.put_async(self.bucket, announcement_key(upload_id), event.encoded())
        _log.info("file found in the inbox", key=key, upload_id=str(upload_id))
        await self._publish(event)

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for piece in obstore.get(self.bucket, key).stream(min_chunk_size=_HASHED_AT_ONCE):
            digest.update(piece)
        return digest.hexdigest()

    async def _publish(self, event: UploadReceived) -> None:
        try:
            await self.producer.send_and_wait(INGEST_UPLOADS.name, event.encoded(), str(event.upload_id).encode())
        except (KafkaError, OSError) as exc:
            raise Transient(f"an upload cannot be announced: {exc!r}") from exc


def _id_of(path: str) -> list[UUID]:
    try:
        return [UUID(path.removeprefix(UPLOADS).removesuffix(_ANNOUNCEMENT))]
    except ValueError:
        return []


def _first_id_of(milliseconds: int) -> UUID:
    """The smallest version 7 id of this moment."""
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)


def _id_of_drop(key: str, meta: Meta) -> UUID:
    """The same object gives the same id, whoever sees it and however often; sorted by its time like any other."""
    moment = int(meta["last_modified"].timestamp() * 1000)
    digest = hashlib.sha256(f"{key}\n{meta['size']}\n{meta['last_modified'].isoformat()}".encode()).digest()
    random = int.from_bytes(digest[:10])
    return UUID(int=moment << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 2 << 62 | random & (1 << 62) - 1)
