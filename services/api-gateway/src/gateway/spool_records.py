"""How a finished request lies on disk: self-delimiting, checksummed, so that a torn last record shows.

    magic 4 | crc32 of the rest 4 | length of event 4 and settlement 4 | written at 8 | user_id 16 | event | settlement

Event and settlement are JSON exactly as they are sent, so sending needs no second encoding.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

_HEADER = struct.Struct("<4sIIId16s")
_MAGIC = b"BDs1"
_CHECKED_FROM = 8  # magic and the checksum itself
RECORD_BYTES_MAX = 8 << 20
_NOBODY = bytes(16)


class Record(NamedTuple):
    written_at: float
    user_id: bytes | None
    event: bytes
    settlement: bytes
    end: int  # offset of the next record


def encode(event: bytes, settlement: bytes, user_id: UUID | None, written_at: float) -> bytes:
    key = user_id.bytes if user_id is not None else _NOBODY
    head = _HEADER.pack(_MAGIC, 0, len(event), len(settlement), written_at, key)
    record = b"".join((head, event, settlement))
    crc = zlib.crc32(memoryview(record)[_CHECKED_FROM:])
    return b"".join((record[:4], crc.to_bytes(4, "little"), record[8:]))


def decode(block: bytes, offset: int) -> Iterator[Record]:
    """The sound records at the front of a block that was read at this file offset; stops at the first that is not."""
    at, bytes_of = 0, memoryview(block)
    while at + _HEADER.size <= len(block):
        magic, crc, event_size, settlement_size, written_at, key = _HEADER.unpack_from(block, at)
        body = at + _HEADER.size
        end = body + event_size + settlement_size
        if magic != _MAGIC or end > len(block) or zlib.crc32(bytes_of[at + _CHECKED_FROM : end]) != crc:
            return
        middle = body + event_size
        user_id = None if key == _NOBODY else key
        yield Record(written_at, user_id, block[body:middle], block[middle:end], offset + end)
        at = end
