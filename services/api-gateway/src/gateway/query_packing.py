"""Compression on request: gzip or zstd at their fastest, since the network is seldom slower than a core."""

from __future__ import annotations

import sys
import zlib
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from fastapi import Request, Response

from gateway.query_formats import coding_of

# Below this, compressing costs more than it saves.
_BYTES_MIN = 4096


class Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def packer(coding: str | None) -> Packer | None:
    if coding == "gzip":
        return zlib.compressobj(1, wbits=31)
    return zstd.ZstdCompressor(level=1) if coding == "zstd" else None


def packed_response(body: bytes, request: Request, status: int = 200) -> Response:
    """A JSON answer, compressed when the client asks for it and it is worth it."""
    coding = coding_of(request.headers.get("accept-encoding", "")) if len(body) >= _BYTES_MIN else None
    packing = packer(coding)
    headers = {"Vary": "Accept, Accept-Encoding"}
    if packing is not None and coding is not None:
        body = packing.compress(body) + packing.flush()
        headers["Content-Encoding"] = coding
    return Response(body, status, headers, media_type="application/json")
