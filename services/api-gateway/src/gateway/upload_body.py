"""The bytes of an upload as they arrive: counted, hashed, looked at and bounded, never held."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from common.errors import BadHeader, ClientError, InvalidRequest, TooLarge, UnsupportedFormat

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_HEAD_BYTES = 64
# Thin and fat Mach-O, both byte orders; ELF.
_EXECUTABLES = tuple(
    bytes.fromhex(magic)
    for magic in ("7f454c46", "feedface", "feedfacf", "cefaedfe", "cffaedfe", "cafebabe", "bebafeca", "cafebabf")
)
_SCRIPT = b"#!/"
# What Content-Encoding may say: how such a body begins, and the name's end that says the same of a file.
_ENCODINGS = {"gzip": (b"\x1f\x8b", ".gz"), "x-gzip": (b"\x1f\x8b", ".gz"), "zstd": (b"\x28\xb5\x2f\xfd", ".zst")}
_FORM_OVERHEAD_BYTES = 64 << 10
_NAME_CHARS_MAX = 1024


class BodyTooSlow(ClientError):
    """The body stopped arriving."""

    code: ClassVar[str] = "too_slow"
    status: ClassVar[int] = 408


@dataclass
class Arriving:
    """What is known about a file while it passes by; complete when `pieces` has ended."""

    bytes_max: int
    idle_s: float
    size: int = 0
    filename: str | None = None  # as the form's part names it
    _sha256: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        digest: str = self._sha256.hexdigest()
        return digest

    async def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """The file's bytes. Raises TooLarge, UnsupportedFormat, InvalidRequest, BadHeader, ClientDisconnect."""
        whole = self._body(request)
        kind, options = parse_options_header(request.headers.get("content-type"))
        source = self._field(whole, options.get(b"boundary", b"")) if kind == b"multipart/form-data" else whole
        head = b""
        async for piece in source:
            self.size += len(piece)
            if self.size > self.bytes_max:
                raise TooLarge(details={"bytes_max": self.bytes_max})
            self._sha256.update(piece)
            if len(head) < _HEAD_BYTES:
                head += piece[:_HEAD_BYTES]
                refuse_executable(head)
                _refuse_other_encoding(head, request)
            yield piece
        if not self.size:
            raise InvalidRequest("The file is empty", details=[{"path": "body", "error": "the file is empty"}])

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        declared = _declared_length(request)
        if declared is not None and declared > self.bytes_max + _FORM_OVERHEAD_BYTES:
            raise TooLarge(details={"bytes_max": self.bytes_max})
        received = 0
        stream = request.stream()
        while True:
            try:
                async with asyncio.timeout(self.idle_s):
                    piece = await anext(stream)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise BodyTooSlow from None
            received += len(piece)
            if piece:
                yield piece
        if declared is not None and received != declared:
            raise BadHeader(f"Content-Length says {declared} bytes, {received} came")

    async def _field(self, body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
        """The content of the one file field of a form, while it is parsed."""
        form = _Form()
        try:
            parser = MultipartParser(boundary, form.callbacks)
            async for piece in body:
                parser.write(piece)
                for part in form.taken():
                    yield part
            parser.finalize()
        except MultipartParseError:
            raise BadHeader("The body is not the multipart/form-data that Content-Type says") from None
        if not form.ended:
            raise BadHeader("The multipart/form-data body ends before its last boundary")
        if not form.found:
            raise _bad_form("the form has no field named file")
        self.filename = form.filename


class _Form:
    """Collects what the parser calls back: the bytes of the field `file`, and nothing of other fields."""

    def __init__(self) -> None:
        self.filename: str | None = None
        self.found = False
        self.ended = False
        self._header = [b"", b""]
        self._disposition = b""
        self._parts: list[bytes] = []
        self.callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header_piece(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_piece(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": lambda data, start, end: self._parts.append(data[start:end]),
            "on_end": self._end,
        }

    def taken(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts

    def _begin(self) -> None:
        self._header = [b"", b""]
        self._disposition = b""

    def _header_piece(self, which: int, piece: bytes) -> None:
        self._header[which] += piece

    def _header_end(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"file":
            raise _bad_form("the only field is file")
        if self.found:
            raise _bad_form("one file at a time")
        self.found = True
        name = options.get(b"filename")
        self.filename = None if name is None else name.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True


def refuse_executable(head: bytes) -> None:
    """A text file may begin with MZ, but holds no NUL so early; a program for DOS or Windows always does."""
    if head.startswith((*_EXECUTABLES, _SCRIPT)) or (head.startswith(b"MZ") and b"\0" in head):
        raise UnsupportedFormat("This is a program, not data")


def packed_name(name: str, request: Request) -> str:
    """The name of a body that Content-Encoding calls packed, and that is kept as it came: `people.csv.gz`."""
    encoding = _encoding(request)
    if encoding is None:
        return name
    _, suffix = _ENCODINGS[encoding]
    return name if name.lower().endswith(suffix) else f"{name or 'upload'}{suffix}"


def _refuse_other_encoding(head: bytes, request: Request) -> None:
    encoding = _encoding(request)
    if encoding is not None and not head.startswith(_ENCODINGS[encoding][0][: len(head)]):
        raise BadHeader(f"Content-Encoding says {encoding}, the body is something else")


def _encoding(request: Request) -> str | None:
    said = request.headers.get("content-encoding", "identity").strip().lower()
    if said in {"", "identity"}:
        return None
    if said not in _ENCODINGS:
        raise UnsupportedFormat("Content-Encoding is gzip, zstd or absent")
    return said


def shown_name(name: str) -> str:
    """A file name as opaque text: bounded, with everything unprintable spelled out. It is never part of a key."""
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in name[:_NAME_CHARS_MAX])
    return shown[:_NAME_CHARS_MAX]


def _declared_length(request: Request) -> int | None:
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdigit() and len(declared) < 20):  # noqa: PLR2004 - digits of 64 bits
        raise BadHeader("Content-Length must be a number of bytes")
    return int(declared)


def _bad_form(what: str) -> InvalidRequest:
    return InvalidRequest(details=[{"path": "body", "error": what}])
