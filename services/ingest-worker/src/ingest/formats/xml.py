"""XML: the record element, and its records as pieces of JSON lines. The parser runs in a child process."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.datasets import Dataset
from ingest.formats.layout import Unreadable
from ingest.formats.records import RECORD_BYTES_MAX, REGULAR, TOO_LONG, Place, Records, Source
from ingest.formats.sandbox import Limits, sandbox

_WHAT = "the XML"
_LINE_BYTES = 8
# A document is never held: one record is, and a block of what was read.
_MEMORY_BYTES_MAX = 192 << 20


def record_path(
    sample: bytes, dataset: Dataset, limits: Limits, *, whole: bool, given: str | None = None
) -> tuple[str, ...]:
    """The names from the root to the element that is a record: the given one, or the one with the most of the
    dataset's fields in it, the outermost of equals.
    """

    def beginning(offset: int, size: int) -> bytes:
        return sample[offset : offset + size]

    with sandbox("xml:look", beginning, None, _of_xml(limits), what=_WHAT, values={"whole": whole}) as frames:
        found: list[dict[str, Any]] = next((frame.meta for frame in frames if frame.meta is not None), [])
    known = {
        tuple(one["path"]): len({column for label in one["fields"] if (column := dataset.column_of(label))})
        for one in found
    }
    if given is not None:
        return _given_path(given, known)
    best = max(known, key=lambda path: (known[path], -len(path)), default=())
    if best and known[best]:
        return best
    names = ", ".join(sorted({path[-1][:40] for path in known})[:8])
    raise Unreadable(f"no element of the XML has a column of dataset {dataset.name} in it: {names}")


def _given_path(name: str, paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    found = [path for path in paths if path[-1] == name]
    if not found:
        raise Unreadable(f"the XML has no element {name[:40]!r} in its first MiB, and that was to be a record")
    return min(found, key=len)


def pieces(source: Source, path: Sequence[str], place: Place, limits: Limits) -> Iterator[Records]:
    """The records as JSON lines, with their lines of the XML. Offsets are those of the JSON."""

    def forward(offset: int, size: int) -> bytes:
        del offset  # the parser reads on
        return source.read(size)

    with sandbox("xml:run", forward, None, _of_xml(limits), what=_WHAT, values={"path": list(path)}) as frames:
        for frame in frames:
            piece = _piece(frame.data, place)
            yield piece
            place = Place(place.offset + piece.consumed, place.line, place.row + len(piece))


def _of_xml(limits: Limits) -> Limits:
    return replace(limits, memory_bytes_max=min(limits.memory_bytes_max, _MEMORY_BYTES_MAX))


def _piece(data: bytes, place: Place) -> Records:
    count = int.from_bytes(data[:_LINE_BYTES], "little")
    lines = np.frombuffer(data, np.int64, count, offset=_LINE_BYTES) - place.line
    text = data[_LINE_BYTES * (1 + count) :]
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    kinds = np.where(ends - starts > RECORD_BYTES_MAX, TOO_LONG, REGULAR).astype(np.uint8)
    return Records(text, starts, ends, lines, kinds, len(text), 0, place)
