"""The files inside of gzip, zstd and zip, as sources. sandboxed/archives.py unpacks them in a child process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest.formats.records import Source
from ingest.formats.sandbox import Frame, Limits, ReadAt, sandbox


@dataclass(frozen=True)
class Member:
    """One file of an archive; gzip and zstd hold a single one without a name."""

    name: str
    source: Source


@contextmanager
def members(
    compression: str, read_at: ReadAt, size: int, limits: Limits, *, head_bytes: int | None = None
) -> Iterator[Iterator[Member]]:
    """The files inside, in their order; each has to be read before the next. `head_bytes`: only as much of each."""
    values = {"compression": compression, "ratio": limits.ratio_max, "ratio_from": limits.ratio_from_bytes}
    what = f"the {compression} file"
    with sandbox("archives:run", read_at, size, limits, what=what, values=values | {"head": head_bytes}) as frames:
        yield _members(frames)


def _members(frames: Iterator[Frame]) -> Iterator[Member]:
    current: _MemberSource | None = None
    pending = next(frames, None)
    while pending is not None:
        current = _MemberSource(frames)
        yield Member(pending.meta["name"], current)
        pending = current.skipped()


class _MemberSource:
    """The data frames up to the next member."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._pending = bytearray()
        self._next: Frame | None = None
        self._ended = False

    def read(self, size: int) -> bytes:
        while len(self._pending) < size and not self._ended:
            self._take()
        piece = bytes(memoryview(self._pending)[:size])
        del self._pending[:size]
        return piece

    def skipped(self) -> Frame | None:
        """What follows this member; the rest of it is passed over."""
        while not self._ended:
            self._pending.clear()
            self._take()
        return self._next

    def _take(self) -> None:
        frame = next(self._frames, None)
        if frame is None or frame.meta is not None:
            self._next, self._ended = frame, True
        else:
            self._pending += frame.data
