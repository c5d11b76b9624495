"""What data teams drop under inbox/<dataset>/ of the bucket is taken in, and loaded like an upload.

A drop is copied to a key of its own while it is hashed, announced there, and removed from the inbox. Whoever writes to
the inbox again meanwhile makes another drop and disturbs nothing. Each step may be repeated, by this watcher after a
crash or by another one at the same time: the same drop has the same id, makes the same objects, and is loaded once.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict, cast
from uuid import UUID

import obstore
from aiokafka import AIOKafkaProducer
from obstore.exceptions import BaseError, InvalidPathError, NotFoundError, PreconditionError
from obstore.store import LocalStore, ObjectStore

from common.bucket import INBOX, announcement_key, object_key
from common.clock import Clock
from common.datasets import Datasets
from common.errors import Permanent, Transient
from common.events import UploadReceived
from common.logs import get_logger
from common.metrics import counter
from ingest.announce import announce
from ingest.settings import Settings

_GONE = (FileNotFoundError, NotFoundError, PreconditionError)
_UNFINISHED_NAMES = (".tmp", ".part", ".partial", ".crdownload")
# Held in memory per drop: this many parts of this size at most, whatever the file's size.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2
_TAKEN_AT_ONCE = 4
_FILENAME_CHARS_MAX = 255

_log = get_logger(__name__)
_drops = counter("bigdata_inbox_files_total", "Files found in the inbox, by what became of them", "outcome")


class Meta(TypedDict):
    """What a store says of an object; obstore's own type exists for type checkers only."""

    path: str
    last_modified: datetime
    size: int
    e_tag: str | None


@dataclass(frozen=True)
class _Seen:
    """How a file looked, and since when it looks like that."""

    looks: tuple[int, str]
    since: float


@dataclass
class Inbox:
    bucket: ObjectStore
    producer: AIOKafkaProducer
    datasets: Datasets
    clock: Clock
    settings: Settings
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _taking: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _taken: set[tuple[str, tuple[int, str]]] = field(default_factory=set)  # what stays in the inbox and is done
    _strangers: set[str] = field(default_factory=set)
    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_TAKEN_AT_ONCE))

    async def look(self) -> None:
        """Begin to take what has not changed for a while: whoever writes it is done. Returns before it is taken."""
        await self._warn_of_strangers()
        seen: dict[str, _Seen] = {}
        for dataset in self.datasets:
            for meta in await self._list(f"{INBOX}{dataset}/"):
                key, looks = meta["path"], (meta["size"], f"{meta['last_modified'].isoformat()} {meta['e_tag']}")
                now, before = self.clock.monotonic(), self._seen.get(key)
                known = before is not None and before.looks == looks
                seen[key] = before if known and before else _Seen(looks, now)
                stable = known and now - seen[key].since >= self.settings.inbox_stable_s
                if stable and key not in self._taking and (key, looks) not in self._taken:
                    self._begin(key, looks)
        self._seen = seen
        self._taken = {taken for taken in self._taken if taken[0] in seen}

    async def take(self, key: str) -> None:
        """Take one file that is complete, if there is such a file and it is wanted. Raises Transient: again later."""
        dataset, name = self._addressed(key)
        if not name:
            return
        try:
            meta = cast("Meta", await obstore.head_async(self.bucket, key))
            upload_id = _id_of_drop(key, meta)
            if not await self._is_announced(upload_id):
                event = await self._copy(upload_id, dataset, name, meta)
                await obstore.put_async(self.bucket, announcement_key(upload_id), event.encoded())
                # From here on the object is never forgotten: if this event is lost, it is announced again.
                await announce(self.producer, event)
                _drops.labels("taken").inc()
                _log.info("file taken from the inbox", key=key, upload_id=str(upload_id), size=event.size)
            if not self.settings.inbox_keep:
                await self._remove(key, meta)
        except _GONE:
            _log.info("a file in the inbox was taken by another watcher, or changed", key=key)
        except (InvalidPathError, ValueError) as exc:
            raise Permanent(f"the name cannot be used: {_first_line(exc)}") from None
        except (BaseError, OSError) as exc:
            raise Transient(f"the bucket does not answer: {_first_line(exc)}") from exc

    async def close(self) -> None:
        tasks = list(self._taking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: str, looks: tuple[int, str]) -> None:
        if self._addressed(key)[1]:
            self._taking[key] = task = asyncio.create_task(self._take_in_turn(key, looks))
            task.add_done_callback(lambda _: self._taking.pop(key, None))

    async def _take_in_turn(self, key: str, looks: tuple[int, str]) -> None:
        async with self._free:
            try:
                await self.take(key)
                self._taken.add((key, looks))
            except (Transient, Permanent) as exc:
                _log.warning("a file stays in the inbox", key=key, reason=str(exc))
            except Exception:  # noqa: BLE001 - the next look tries again, whatever it was
                _log.exception("a file stays in the inbox", key=key)

    def _addressed(self, key: str) -> tuple[str, str]:
        """Dataset and name of a file in the inbox; no name for what is none of ours or not complete."""
        dataset, _, name = key.removeprefix(INBOX).partition("/")
        unwanted = not name or name.startswith(".") or "/." in name or name.endswith(_UNFINISHED_NAMES)
        if not key.startswith(INBOX) or dataset not in self.datasets or unwanted:
            return dataset, ""
        return dataset, name

    async def _list(self, prefix: str) -> list[Meta]:
        """One dataset at a time: a name that the store library cannot express hides its neighbours, and no others."""
        try:
            return await asyncio.to_thread(_listed, self.bucket, prefix)
        except (OSError, BaseError) as exc:
            _log.warning("a part of the inbox cannot be listed", prefix=prefix, fault=_first_line(exc))
            return []

    async def _warn_of_strangers(self) -> None:
        try:
            found = await obstore.list_with_delimiter_async(self.bucket, INBOX)
        except (OSError, BaseError):
            return
        names = {str(prefix).removeprefix(INBOX).strip("/") for prefix in found["common_prefixes"]}
        for name in names - self._strangers - set(self.datasets):
            _log.warning("the inbox has a folder for a dataset that is not declared", folder=name)
        self._strangers = names - set(self.datasets)

    async def _is_announced(self, upload_id: UUID) -> bool:
        try:
            await obstore.head_async(self.bucket, announcement_key(upload_id))
        except _GONE:
            return False
        return True

    async def _copy(self, upload_id: UUID, dataset: str, name: str, meta: Meta) -> UploadReceived:
        digest, size = hashlib.sha256(), 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal size
            # Of this version or none: a file that is written again meanwhile is another drop.
            found = await obstore.get_async(self.bucket, meta["path"], options={"if_match": meta["e_tag"]})
            async for piece in found.stream(min_chunk_size=_PART_BYTES):
                data = bytes(piece)
                await asyncio.to_thread(digest.update, data)
                size += len(data)
                yield data

        key = object_key(upload_id)
        await obstore.put_async(self.bucket, key, pieces(), chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        return UploadReceived(
            upload_id=upload_id,
            dataset=dataset,
            object_key=key,
            filename=_shown_name(name),
            size=size,
            sha256=digest.hexdigest(),
            received_at=meta["last_modified"],
        )

    async def _remove(self, key: str, meta: Meta) -> None:
        """Only the version that was taken. Stores have no conditional delete: two calls apart is as near as it gets."""
        now = cast("Meta", await obstore.head_async(self.bucket, key))
        if _id_of_drop(key, now) == _id_of_drop(key, meta):
            await obstore.delete_async(self.bucket, key)


def _listed(bucket: ObjectStore, prefix: str) -> list[Meta]:
    if isinstance(bucket, LocalStore):
        return _listed_folder(bucket, prefix)
    return [cast("Meta", meta) for page in obstore.list(bucket, prefix) for meta in page]


def _listed_folder(bucket: LocalStore, prefix: str) -> list[Meta]:
    """Of a folder: each file asked for by itself, so that one with an impossible name hides nothing."""
    found: list[Meta] = []
    root = bucket.prefix
    if root is None:
        return found
    for path in sorted((root / prefix).rglob("*")):
        key = str(path.relative_to(root))
        try:
            if path.is_file() and not path.is_symlink():
                found.append(cast("Meta", obstore.head(bucket, key)))
        except _GONE:
            continue
        except (BaseError, ValueError) as exc:
            _log.warning("a file in the inbox has a name that cannot be used", key=repr(key), fault=repr(exc)[:200])
    return found


def _first_line(exc: Exception) -> str:
    """The library adds a dump of its own structures below."""
    return (str(exc).splitlines() or [repr(exc)])[0][:300]


def _shown_name(name: str) -> str:
    """For status documents: text that does nothing to a terminal or a log."""
    return "".join(one if one.isprintable() else "_" for one in name)[-_FILENAME_CHARS_MAX:]


def _id_of_drop(key: str, meta: Meta) -> UUID:
    """The same object gives the same id, whoever sees it and however often; sorted by its time like any other."""
    # Whole seconds: a listing may say more of a time than the object's own head.
    moment = int(meta["last_modified"].timestamp())
    digest = hashlib.sha256(f"{key}\n{meta['size']}\n{moment}\n{meta['e_tag']}".encode()).digest()
    random: Any = int.from_bytes(digest[:10])
    return UUID(int=moment * 1000 << 80 | 7 << 76 | (random >> 68 & 0xFFF) << 64 | 2 << 62 | random & (1 << 62) - 1)
