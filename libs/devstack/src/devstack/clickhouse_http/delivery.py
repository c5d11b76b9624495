"""Sending one result: whole when it is small, spooled when the client waits for the end, else as a stream."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from devstack.clickhouse_http.compression import PIECE_BYTES, choose, compressor
from devstack.clickhouse_http.engine import Connection
from devstack.clickhouse_http.outlet import Outlet
from devstack.clickhouse_http.refusals import Refusal
from devstack.clickhouse_http.request import Call
from devstack.clickhouse_http.results import Query, Totals, pieces

ANSWER_IN_MEMORY_BYTES_MAX: Final = 1 << 20
SPOOLED_IN_MEMORY_BYTES_MAX: Final = 8 << 20
# Below this, compressing costs more than it saves.
_COMPRESSED_BYTES_MIN: Final = 512
_LAST_WORDS_S: Final = 0.1

Headers = list[tuple[bytes, bytes]]

_CONTENT_TYPES: Final = {
    "json": "application/json; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "native": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "parquet": "application/octet-stream",
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes


class Delivery:
    """One use each. `send` returns the answer when it fits in memory, None when it has gone out already."""

    def __init__(self, call: Call, headers: Headers, outlet: Outlet, spool: Path) -> None:
        self._call = call
        self._outlet = outlet
        self._spool = spool
        self._headers = headers
        self._totals = Totals()
        self._coding = choose(call.accept_encoding) if call.flag("enable_http_compression") else None
        self._tag = secrets.token_hex(8)

    def send(self, connection: Connection, query: Query, *, answers: bool) -> Answer | None:
        if answers:
            content_type = _CONTENT_TYPES.get(query.form.lower(), "text/plain; charset=UTF-8")
            self._headers += [(b"x-clickhouse-format", query.form.encode()), (b"content-type", content_type.encode())]
        with closing(pieces(connection, query, self._totals)) as waiting:
            start = _take(waiting, ANSWER_IN_MEMORY_BYTES_MAX)
            following = next(waiting, None)
            if following is None:
                return self._whole(start)
            if self._call.flag("wait_end_of_query"):
                self._send_spooled([start, following], waiting)
            else:
                self._send_stream([start, following], waiting)
        return None

    def _whole(self, body: bytes) -> Answer:
        if self._coding and len(body) >= _COMPRESSED_BYTES_MIN:
            squeezing = compressor(self._coding)
            body = squeezing.compress(body) + squeezing.flush()
            self._headers.append((b"content-encoding", self._coding.encode()))
        return Answer(200, [*self._all_headers(), (b"content-length", str(len(body)).encode())], body)

    def _all_headers(self) -> Headers:
        return [*self._headers, (b"x-clickhouse-summary", json.dumps(self._totals.summary()).encode())]

    def _note_coding(self) -> None:
        if self._coding:
            self._headers.append((b"content-encoding", self._coding.encode()))

    def _send_spooled(self, first: list[bytes], waiting: Iterator[bytes]) -> None:
        """Nothing leaves before the query has ended: its errors still are an HTTP status, its summary complete."""
        self._note_coding()
        squeezing = compressor(self._coding)
        with tempfile.SpooledTemporaryFile(SPOOLED_IN_MEMORY_BYTES_MAX, dir=str(self._spool)) as file:
            for piece in first:
                file.write(squeezing.compress(piece))
            for piece in waiting:
                file.write(squeezing.compress(piece))
            file.write(squeezing.flush())
            self._outlet.begin(200, [*self._all_headers(), (b"content-length", str(file.tell()).encode())])
            file.seek(0)
            self._copy(file)

    def _copy(self, file: IO[bytes]) -> None:
        while piece := file.read(PIECE_BYTES):
            self._outlet.write(piece)
        self._outlet.write(b"", more=False)

    def _send_stream(self, first: list[bytes], waiting: Iterator[bytes]) -> None:
        self._note_coding()
        squeezing = compressor(self._coding)
        self._outlet.begin(200, [*self._all_headers(), (b"x-clickhouse-exception-tag", self._tag.encode())])
        try:
            for piece in first:
                self._write(squeezing.compress(piece))
            for piece in waiting:
                self._write(squeezing.compress(piece))
        except Refusal as refusal:
            self._write(squeezing.compress(self._exception_block(refusal)) + squeezing.flush())
            # aiohttp forgets what it has not handed on when the connection ends: let it read the reason first.
            time.sleep(_LAST_WORDS_S)
            raise
        self._outlet.write(squeezing.flush(), more=False)

    def _write(self, data: bytes) -> None:
        # A compressor may keep a piece for later, and an empty piece would end a chunked answer.
        if data:
            self._outlet.write(data)

    def _exception_block(self, refusal: Refusal) -> bytes:
        """The form of ClickHouse 25.11 and later, which clients find by the tag in the headers."""
        message = f"{refusal}\n".encode(errors="replace")
        tag = self._tag.encode()
        block = [b"__exception__", tag, message + str(len(message)).encode() + b" " + tag, b"__exception__"]
        return b"\r\n" + b"\r\n".join(block) + b"\r\n"


def _take(waiting: Iterator[bytes], bytes_max: int) -> bytes:
    """Pieces up to about this many bytes; what follows stays in the iterator."""
    taken: list[bytes] = []
    size = 0
    while size < bytes_max and (piece := next(waiting, None)) is not None:
        taken.append(piece)
        size += len(piece)
    return b"".join(taken)
