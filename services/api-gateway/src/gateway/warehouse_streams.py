"""Results of any size as ClickHouse writes them: pieces of bytes, with memory for one piece and no more.

Not by clickhouse-connect: an error in the middle of a result is told by a tag that only the answer's headers name, and
what follows the tag is ClickHouse's own text, which no client may see.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from clickhouse_connect.driver.binding import bind_query

from common.settings import ClickHouseSettings

_PIECE_BYTES = 1 << 18
_CONNECT_S = 5
_MARK = b"__exception__\r\n"


class BrokenResult(Exception):
    """The result ended before its end; `code` is ClickHouse's, when it said one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"ClickHouse error {code}" if code else "the connection to ClickHouse was lost")
        self.code = code


class RefusedResult(Exception):
    """ClickHouse refused the query before its first byte."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


class Result:
    """An open result; close it whatever happens: that is what stops the query."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        tag = response.headers.get("X-ClickHouse-Exception-Tag", "")
        self._mark = _MARK + tag.encode() if tag else b""
        self._held = b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises BrokenResult, aiohttp.ClientError, TimeoutError. Nothing of an error's text is ever in a piece."""
        async for piece in self._response.content.iter_any():
            if sound := self._checked(piece):
                yield sound
        if self._held:
            yield self._held

    def close(self) -> None:
        self._response.close()

    def _checked(self, piece: bytes) -> bytes:
        if not self._mark:
            return piece
        whole = self._held + piece
        if (at := whole.find(self._mark)) >= 0:
            raise BrokenResult(code_in(whole[at:]))
        # The mark may lie across two pieces.
        keep = len(self._mark)
        self._held = whole[-keep:]
        return whole[:-keep]


class Streams:
    def __init__(self, session: aiohttp.ClientSession, database: str) -> None:
        self._session = session
        self._database = database

    async def open(self, sql: str, parameters: Mapping[str, Any], settings: Mapping[str, Any], form: str) -> Result:
        """Returns when the first bytes are there. Raises RefusedResult, aiohttp.ClientError, TimeoutError."""
        text, bound = bind_query(sql, dict(parameters))
        fields = aiohttp.FormData(default_to_multipart=True)
        fields.add_field("query", text if isinstance(text, str) else text.decode())
        for name, value in bound.items():
            fields.add_field(name, value)
        params = {
            "database": self._database,
            "default_format": form,
            **{name: str(value) for name, value in settings.items()},
        }
        response = await self._session.post("/", params=params, data=fields)
        code = response.headers.get("X-ClickHouse-Exception-Code")
        if response.status != 200 or code:  # noqa: PLR2004 - the only success
            told = (await response.content.read(2000)).decode("utf-8", "replace")
            response.close()
            raise RefusedResult(int(code) if code and code.isdecimal() else None, told)
        return Result(response)


def code_in(block: bytes) -> int | None:
    _, found, rest = block.partition(b"Code: ")
    digits = rest[:6].split(b".")[0]
    return int(digits) if found and digits.isdigit() else None


@asynccontextmanager
async def open_streams(settings: ClickHouseSettings) -> AsyncIterator[Streams]:
    scheme = "https" if settings.clickhouse_secure else "http"
    async with aiohttp.ClientSession(
        f"{scheme}://{settings.clickhouse_host}:{settings.clickhouse_port}",
        headers={
            "X-ClickHouse-User": settings.clickhouse_user,
            "X-ClickHouse-Key": settings.clickhouse_password.get_secret_value(),
            "Accept-Encoding": "identity",
        },
        connector=aiohttp.TCPConnector(limit=settings.clickhouse_connections_max),
        # The whole is bounded by who reads it; a silent server is by sock_read.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=settings.clickhouse_timeout_s),
        read_bufsize=_PIECE_BYTES,
    ) as session:
        yield Streams(session, settings.clickhouse_database)
