"""The bytes of an object, read forward in ranges: never more of it in memory than a window."""

import codecs
from dataclasses import dataclass

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from common.errors import Permanent, Transient
from ingest.formats.records import Source

_UTF8 = "utf-8"


@dataclass
class ObjectRange:
    """Bytes `position` to `end` of an object. Blocking: for the thread that parses."""

    bucket: ObjectStore
    key: str
    position: int
    end: int

    def read(self, size: int) -> bytes:
        size = min(size, self.end - self.position)
        if size <= 0:
            return b""
        try:
            found = obstore.get_range(self.bucket, self.key, start=self.position, length=size).to_bytes()
        except (FileNotFoundError, NotFoundError) as exc:
            raise Permanent(f"the object {self.key} is not in the bucket any more") from exc
        except (OSError, BaseError) as exc:
            raise Transient(f"the bucket does not answer: {exc}") from exc
        if len(found) != size:
            raise Permanent(
                f"the object {self.key} ends at byte {self.position + len(found)}, before its announced size"
            )
        self.position += size
        return found


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
