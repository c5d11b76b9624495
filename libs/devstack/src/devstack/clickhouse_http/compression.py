"""Content codings both ways: lz4 and zstd, as clickhouse-connect prefers them, gzip and deflate for everything else."""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import IO, Final, Protocol, cast

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from devstack.clickhouse_http.refusals import NOT_IMPLEMENTED, QUERY_IS_TOO_LARGE, Refusal

PIECE_BYTES: Final = 1 << 20


class Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor(auto_flush=True)
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else cast("bytes", self._frame.begin())
        self._begun = True
        return head + cast("bytes", self._frame.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else cast("bytes", self._frame.begin())
        return head + cast("bytes", self._frame.flush())


# Cheapest first: the client is on the same machine.
_ANSWERED: Final = ("lz4", "zstd", "gzip", "deflate")


def choose(accept_encoding: str) -> str | None:
    """The cheapest coding the client accepts, None for none of ours."""
    accepted = {part.partition(";")[0].strip().lower() for part in accept_encoding.split(",")}
    return next((coding for coding in _ANSWERED if coding in accepted), None)


def compressor(coding: str | None) -> Compressor:
    match coding:
        case "lz4":
            return _Lz4()
        case "zstd":
            return cast("Compressor", zstd.ZstdCompressor(level=1))
        case "gzip":
            return zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
        case "deflate":
            return zlib.compressobj(level=1)
        case _:
            return _Plain()


class _Inflate:
    """File-like reading of a deflate body, which comes with or without its zlib header."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        head = source.read(2)
        source.seek(0)
        # RFC 1950: the header is a multiple of 31.
        wrapped = len(head) == 2 and int.from_bytes(head, "big") % 31 == 0  # noqa: PLR2004 -- two header bytes
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)

    def read(self, size: int) -> bytes:
        while not self._inflate.eof:
            waiting = self._inflate.unconsumed_tail or self._source.read(size)
            data = self._inflate.decompress(waiting, size)
            if data or not waiting:
                return data
        return b""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Bounded:
    """Decompresses as it is read and stops a body that grows past `bytes_max`."""

    def __init__(self, source: IO[bytes], coding: str, bytes_max: int) -> None:
        self._source = _opened(source, coding)
        self._left = bytes_max

    def read(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except (OSError, EOFError, RuntimeError, zlib.error, zstd.ZstdError) as exc:
            raise Refusal(QUERY_IS_TOO_LARGE, f"Cannot decompress the request body: {exc}") from exc
        self._left -= len(data)
        if self._left < 0:
            raise Refusal(QUERY_IS_TOO_LARGE, "The decompressed request body is too large.")
        return data


def _opened(source: IO[bytes], coding: str) -> Readable:
    match coding:
        case "" | "identity":
            return source
        case "gzip":
            return gzip.open(source)
        case "zstd":
            return cast("Readable", zstd.open(source))
        case "lz4":
            return cast("Readable", lz4.frame.open(source))
        case "deflate":
            return _Inflate(source)
        case _:
            raise Refusal(NOT_IMPLEMENTED, f"Unknown Content-Encoding: {coding}")
