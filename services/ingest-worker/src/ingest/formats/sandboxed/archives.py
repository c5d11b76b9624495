"""gzip, zstd and zip as plain bytes, in constant memory."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from ingest.formats.sandboxed.pipes import Given, Output, Refusal

_MEMBERS_MAX = 1000
_PIECE_BYTES = 1 << 20
_IN_BYTES = 256 << 10
# What archivers add on their own.
_FOLDERS_NOT_DATA, _FILES_NOT_DATA = "__MACOSX/", (".DS_Store", "Thumbs.db")
_GZIP_WINDOW = 31


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's object, with its unread input kept as the one of zstd keeps it."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


def run(given: Given, output: Output, values: Mapping[str, Any]) -> None:
    meter = _Meter(given, output, values)
    if values["compression"] == "zip":
        _unzip(given, meter, values["head"])
        return
    output.meta({"name": ""})
    for piece in _pieces(given, values["compression"]):
        meter.send(piece)
        if values["head"] is not None and meter.sent >= values["head"]:
            return


class _Meter:
    """Refuses what unpacks to too many times its size, while it unpacks."""

    def __init__(self, given: Given, output: Output, values: Mapping[str, Any]) -> None:
        self._given, self._output = given, output
        self._ratio, self._from = values["ratio"], values["ratio_from"]
        self.sent = 0

    def member(self, name: str) -> None:
        self._output.meta({"name": name})

    def send(self, piece: bytes) -> None:
        self.sent += len(piece)
        if self.sent > max(self._from, self._ratio * self._given.taken):
            raise Refusal(f"it unpacks to more than {self._ratio} times its size")
        if piece:
            self._output.data(piece)


def _pieces(given: Given, compression: str) -> Iterator[bytes]:
    """Members of gzip and frames of zstd may follow one another; zeros at the end are padding."""
    data = given.read(_IN_BYTES) or b""
    while data.strip(b"\0"):
        unpacker = _decompressor(compression)
        while not unpacker.eof:
            try:
                piece = unpacker.decompress(data, _PIECE_BYTES)
            except MemoryError:
                raise
            except Exception as exc:  # zlib.error or ZstdError, which no common class tells from others
                raise Refusal(f"the data are damaged: {exc}") from exc
            if piece:
                yield piece
            data = b""
            if not unpacker.eof and len(piece) < _PIECE_BYTES:
                data = given.read(_IN_BYTES) or b""
                if not data:
                    raise Refusal("the data end too soon")
        data = unpacker.unused_data or given.read(_IN_BYTES) or b""


def _decompressor(compression: str) -> _Decompressor:
    if compression == "gzip":
        return _Gzip()
    from backports import zstd  # noqa: PLC0415 - the child of a gzip file does without

    return zstd.ZstdDecompressor()


def _unzip(given: Given, meter: _Meter, head: int | None) -> None:
    try:
        with zipfile.ZipFile(io.BufferedReader(given, _IN_BYTES)) as archive:
            files = [one for one in archive.infolist() if not one.is_dir() and _is_data(one.filename)]
            if len(files) > _MEMBERS_MAX:
                raise Refusal(f"it holds {len(files)} files, more than {_MEMBERS_MAX}")
            if not files:
                raise Refusal("it holds no file")
            for one in files:
                # The name is for people's eyes alone: nothing is ever written under it.
                meter.member(one.filename)
                _unzip_one(archive, one, meter, head)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as exc:
        raise Refusal(str(exc) or "the data end too soon") from exc


def _unzip_one(archive: zipfile.ZipFile, one: zipfile.ZipInfo, meter: _Meter, head: int | None) -> None:
    left = head
    with archive.open(one) as stream:
        while left is None or left > 0:
            piece = stream.read(_PIECE_BYTES)
            if not piece:
                return
            meter.send(piece)
            left = None if left is None else left - len(piece)


def _is_data(name: str) -> bool:
    return not name.startswith(_FOLDERS_NOT_DATA) and not name.endswith(_FILES_NOT_DATA)
