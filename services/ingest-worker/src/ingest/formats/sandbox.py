"""Reading what could be hostile in a child process with caps on its memory and its output.

Started by exec, never by fork: the worker has threads. The child asks for ranges of the object over its pipe, so it
needs neither the bucket nor the network, and whatever it is made to do ends with it. sandboxed/ is its program.
"""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from common.errors import Transient
from ingest.formats.layout import Unreadable
from ingest.formats.sandboxed.pipes import ASK, ASKED, DATA, END, FRAME, META, REFUSED

_FRAMES_AHEAD: Final = 2  # read from the child while one is worked on
_LOOK_S: Final = 0.2
_STOPPED_BY_US = {signal.SIGTERM, signal.SIGINT}
_FRAME_BYTES_MAX: Final = 256 << 20

# Bytes of the object at an offset.
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Limits:
    """Of one child process. `ratio_max` is that of what comes out to what went in, once `ratio_from_bytes` came out."""

    memory_bytes_max: int = 384 << 20
    output_bytes_max: int = 1 << 40
    ratio_max: int = 200
    ratio_from_bytes: int = 256 << 20
    stalled_s: float = 120

    def output_of(self, size: int) -> int:
        """What may come out of an object of this size."""
        return min(self.output_bytes_max, max(self.ratio_from_bytes, size * self.ratio_max))


@dataclass(frozen=True)
class Frame:
    """What the child says: `meta`, or `data`."""

    data: bytes = b""
    meta: Any = None


@contextmanager
def sandbox(
    job: str, read_at: ReadAt, size: int | None, limits: Limits, *, what: str, values: Mapping[str, Any] | None = None
) -> Iterator[Iterator[Frame]]:
    """Run `module:function` of sandboxed/ on an object; `size` is None where it can only be read forward.

    The frames raise Unreadable for what the child refuses or dies of, and whatever `read_at` raises.
    """
    order = {
        "job": f"ingest.formats.sandboxed.{job}",
        "size": size,
        "memory_bytes_max": limits.memory_bytes_max,
        "output_bytes_max": limits.output_bytes_max if size is None else limits.output_of(size),
        "values": dict(values or {}),
    }
    child = _Child(order, read_at, limits, what)
    try:
        yield child.frames()
    finally:
        child.close()


class _Child:
    def __init__(self, order: Mapping[str, Any], read_at: ReadAt, limits: Limits, what: str) -> None:
        self._read_at, self._limits, self._what = read_at, limits, what
        self._frames: queue.Queue[Frame | BaseException | None] = queue.Queue(_FRAMES_AHEAD)
        self._closed = threading.Event()
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-I", "-m", "ingest.formats.sandboxed", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of ours is the child's to know. One arena and the system's allocator: limits count what is mapped.
            env={"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
        )
        self._pump = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._pump.start()

    def frames(self) -> Iterator[Frame]:
        while True:
            try:
                found = self._frames.get(timeout=self._limits.stalled_s)
            except queue.Empty:
                raise Unreadable(
                    f"{self._what} cannot be read: nothing came of it in {self._limits.stalled_s:g} s"
                ) from None
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        self._closed.set()
        self._process.kill()
        self._pump.join()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()

    def _run(self) -> None:
        """The pump: answers the child's questions and takes its frames, while the parser works on an earlier one."""
        try:
            self._talk()
        except BaseException as exc:  # noqa: BLE001 - it is raised again where the frames are read
            self._put(exc)
        else:
            self._put(None)

    def _talk(self) -> None:
        answers, questions = self._process.stdin, self._process.stdout
        if answers is None or questions is None:
            raise RuntimeError("a child without pipes")
        while True:
            kind, payload = self._frame(questions)
            if kind == ASK:
                offset, size = ASKED.unpack(payload)
                self._answer(answers, self._read_at(offset, size))
            elif kind == DATA:
                self._put(Frame(data=payload))
            elif kind == META:
                self._put(Frame(meta=json.loads(payload)))
            elif kind == REFUSED:
                raise Unreadable(f"{self._what} cannot be read: {payload.decode('utf-8', 'replace')}")
            elif kind == END:
                return
            else:
                raise self._broken()

    def _frame(self, stream: BinaryIO | Any) -> tuple[bytes, bytes]:
        head = stream.read(FRAME.size)
        if len(head) < FRAME.size:
            raise self._broken()
        kind, size = FRAME.unpack(head)
        payload = stream.read(size) if size <= _FRAME_BYTES_MAX else b""
        if len(payload) < size:
            raise self._broken()
        return kind, payload

    def _answer(self, stream: BinaryIO | Any, piece: bytes) -> None:
        try:
            stream.write(len(piece).to_bytes(4, "little") + piece)
            stream.flush()
        except BrokenPipeError:
            raise self._broken() from None

    def _broken(self) -> Exception:
        """The child died, or says what it cannot mean."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            code = 0
        if -code in _STOPPED_BY_US:
            return Transient(f"reading {self._what} was stopped by {signal.Signals(-code).name}")
        died = signal.Signals(-code).name if code < 0 else f"status {code}"
        return Unreadable(f"{self._what} cannot be read: it broke its reader ({died})")

    def _put(self, found: Frame | BaseException | None) -> None:
        while not self._closed.is_set():
            try:
                self._frames.put(found, timeout=_LOOK_S)
            except queue.Full:
                continue
            return
