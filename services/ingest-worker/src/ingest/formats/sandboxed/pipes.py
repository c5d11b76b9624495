"""What parent and child say to each other. The child asks for ranges of the object, and answers with frames."""

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

FRAME = struct.Struct("<cQ")
ASKED = struct.Struct("<QI")
ASK, DATA, META, REFUSED, END = b"R", b"D", b"M", b"E", b"Z"
_AT_ONCE_MAX = 4 << 20


class Refusal(Exception):
    """The object cannot be read; the text says why, to whoever sent it."""


class Given(io.RawIOBase):
    """The object as a file, seekable where its size is known."""

    def __init__(self, answers: BinaryIO, questions: BinaryIO, size: int | None) -> None:
        super().__init__()
        self._answers, self._questions, self._size = answers, questions, size
        self._position = 0
        self.taken = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._size is not None

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self._size is None:
            raise io.UnsupportedOperation("seek")
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            piece = self._ask(min(len(view) - filled, _AT_ONCE_MAX))
            if not piece:
                break
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def _ask(self, size: int) -> bytes:
        if self._size is not None:
            size = min(size, self._size - self._position)
        if size <= 0:
            return b""
        self._questions.write(FRAME.pack(ASK, ASKED.size) + ASKED.pack(self._position, size))
        self._questions.flush()
        head = self._answers.read(4)
        if len(head) < 4:  # noqa: PLR2004 - the parent is gone
            raise BrokenPipeError
        piece = self._answers.read(int.from_bytes(head, "little"))
        self._position += len(piece)
        self.taken += len(piece)
        return piece


class Output:
    """Frames for the parent; `bytes_max` of them is more than anybody asked for."""

    def __init__(self, stream: BinaryIO, bytes_max: int) -> None:
        self._stream, self._left = stream, bytes_max

    def data(self, *parts: Any) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        self._left -= size
        if self._left < 0:
            raise Refusal("it unpacks to more bytes than are allowed")
        self._send(DATA, size, *parts)

    def meta(self, found: object) -> None:
        text = json.dumps(found).encode()
        self._send(META, len(text), text)

    def refused(self, reason: str) -> None:
        text = reason.encode("utf-8", "replace")
        self._send(REFUSED, len(text), text)

    def end(self) -> None:
        self._send(END, 0)

    def _send(self, kind: bytes, size: int, *parts: Any) -> None:
        self._stream.write(FRAME.pack(kind, size))
        for part in parts:
            self._stream.write(part)
        self._stream.flush()


Job = Callable[[Given, Output, Mapping[str, Any]], None]
