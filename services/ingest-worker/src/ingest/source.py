"""The bytes of an object, read in ranges: never more of it in memory than a window."""

import codecs
from dataclasses import dataclass
from typing import Protocol

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from common.errors import Permanent, Transient
from ingest.formats.records import Source

_UTF8 = "utf-8"


class Stored(Protocol):
    """An object of the bucket, as readers see it."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, size: int) -> bytes:
        """Exactly this many bytes, fewer only at the end. Blocking: for the thread that parses."""


@dataclass(frozen=True)
class BucketObject:
    bucket: ObjectStore
    key: str
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        try:
            found = obstore.get_range(self.bucket, self.key, start=offset, length=size).to_bytes()
        except (FileNotFoundError, NotFoundError) as exc:
            raise Permanent(f"the object {self.key} is not in the bucket any more") from exc
        except (OSError, BaseError) as exc:
            raise Transient(f"the bucket does not answer: {exc}") from exc
        if len(found) != size:
            raise Permanent(f"the object {self.key} ends at byte {offset + len(found)}, before its announced size")
        return found


@dataclass(frozen=True)
class Bytes:
    """An object that is in memory already: a sample, or a test's file."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


@dataclass
class Range:
    """Bytes `position` to `end` of an object, read forward; `position` says how far that is."""

    stored: Stored
    position: int
    end: int

    def read(self, size: int) -> bytes:
        found = self.stored.read_at(self.position, min(size, self.end - self.position))
        self.position += len(found)
        return found


@dataclass
class Prefixed:
    """A source of which the beginning was read already, to look at it."""

    head: bytes
    rest: Source

    def read(self, size: int) -> bytes:
        piece, self.head = self.head[:size], self.head[size:]
        return piece + self.rest.read(size - len(piece)) if len(piece) < size else piece


class Transcoded:
    """Another encoding as UTF-8. What cannot be decoded comes out as bytes that are no UTF-8 either, so that the row
    it is in, and no other, is rejected.
    """

    def __init__(self, source: Source, encoding: str) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="surrogatepass")
        self._pending = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        while len(self._pending) < size and not self._ended:
            raw = self._source.read(size)
            self._ended = not raw
            self._pending += self._decode(raw)
        piece, self._pending = self._pending[:size], self._pending[size:]
        return piece

    def _decode(self, raw: bytes) -> bytes:
        try:
            text = self._decoder.decode(raw, final=self._ended)
        except UnicodeDecodeError:  # half a character at the very end
            text = "\udcff"
        return text.encode(_UTF8, "surrogatepass")


def text_source(source: Source, encoding: str) -> Source:
    return source if encoding == _UTF8 else Transcoded(source, encoding)
