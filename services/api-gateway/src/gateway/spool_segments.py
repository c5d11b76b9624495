"""The spool's files: segments of one process, in a folder that its lock says is alive.

spool_folder/<owner>/lock           held by flock while the owner lives
spool_folder/<owner>/000001.spool   records, append-only
spool_folder/<owner>/000001.done    how far each side has acknowledged; losing it only means sending again
"""

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from common.ids import new_id
from common.logs import get_logger
from gateway.spool_records import RECORD_BYTES_MAX, Record, decode

_log = get_logger(__name__)
_DONE = struct.Struct("<QQ")
_READ_BYTES = 256 * 1024
Side: TypeAlias = Literal["settled", "audited"]


class Segment:
    """One file. Only its own process appends; an adopted one is only read and then removed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done_path = path.with_suffix(".done")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._done_file = os.open(self._done_path, os.O_RDWR | os.O_CREAT, 0o600)
        self.size = os.fstat(self._file).st_size
        done = os.pread(self._done_file, _DONE.size, 0)
        settled, audited = _DONE.unpack(done) if len(done) == _DONE.size else (0, 0)
        self.acknowledged: dict[Side, int] = {"settled": min(settled, self.size), "audited": min(audited, self.size)}

    def append(self, record: bytes) -> None:
        """Raises OSError when the disk refuses; nothing of the record stays then."""
        written = os.write(self._file, record)
        if written != len(record):
            os.ftruncate(self._file, self.size)
            raise OSError(f"short write of {written} of {len(record)} bytes")
        self.size += written

    def read(self, side: Side) -> list[Record]:
        """Some records that this side has not acknowledged. A torn end is cut off: nobody was told it was kept."""
        start = self.acknowledged[side]
        wanted = self.size - start
        records = list(decode(os.pread(self._file, min(wanted, _READ_BYTES), start), start))
        if not records and wanted > _READ_BYTES:
            records = list(decode(os.pread(self._file, min(wanted, RECORD_BYTES_MAX), start), start))
        if not records and wanted:
            _log.error("spool record is torn or damaged, the rest of the segment is dropped", bytes=wanted)
            os.ftruncate(self._file, start)
            self.size = start
        return records

    def acknowledge(self, side: Side, end: int) -> None:
        self.acknowledged[side] = end
        os.pwrite(self._done_file, _DONE.pack(self.acknowledged["settled"], self.acknowledged["audited"]), 0)

    @property
    def pending_bytes(self) -> int:
        return max(0, self.size - min(self.acknowledged.values()))

    def oldest_at(self) -> float | None:
        """When the oldest record that is not fully acknowledged was written."""
        start = min(self.acknowledged.values())
        if start >= self.size:
            return None
        first = next(decode(os.pread(self._file, min(self.size - start, RECORD_BYTES_MAX), start), start), None)
        return first.written_at if first else None

    def close(self, *, remove: bool) -> None:
        os.close(self._file)
        os.close(self._done_file)
        if remove:
            self._path.unlink(missing_ok=True)
            self._done_path.unlink(missing_ok=True)


class OwnedFolder:
    """A folder of segments whose lock this process holds."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, parent: Path) -> "OwnedFolder":
        """Locked before it gets its name: nobody can adopt it in between."""
        parent.mkdir(parents=True, exist_ok=True)
        name = str(new_id())
        hidden = parent / f".{name}"
        hidden.mkdir(mode=0o700)
        lock = _try_lock(hidden / "lock", create=True)
        assert lock is not None  # noqa: S101 - nobody else knows this name
        return cls(hidden.rename(parent / name), lock)

    @classmethod
    def of_dead_processes(cls, parent: Path, held: set[str]) -> Iterator["OwnedFolder"]:
        """Adopt what nobody holds: the lock of a killed process is released by the kernel."""
        for path in sorted(parent.iterdir()):
            if path.name in held or path.name.startswith(".") or not path.is_dir():
                continue
            lock = _try_lock(path / "lock", create=False)
            if lock is not None:
                yield cls(path, lock)

    def segments(self) -> list[Segment]:
        return [Segment(path) for path in sorted(self.path.glob("*.spool"))]

    def new_segment(self, number: int) -> Segment:
        return Segment(self.path / f"{number:06}.spool")

    def close(self, *, remove: bool) -> None:
        if remove:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _try_lock(path: Path, *, create: bool) -> int | None:
    try:
        lock = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        return None  # its owner has just removed the folder
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink == 0:  # removed between open and lock
        os.close(lock)
        return None
    return lock
