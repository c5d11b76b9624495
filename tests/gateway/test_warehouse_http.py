"""Statements on their way to a ClickHouse that closes connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.warehouse_http import RefusedResult, WarehouseHttp

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n"
REFUSED = b"HTTP/1.1 500 x\r\nX-ClickHouse-Exception-Code: 158\r\nContent-Length: 9\r\n\r\nCode: 158"


class Server:
    """Answers each request with the next of a script; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(size))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                writer.write(answer)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[WarehouseHttp]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield WarehouseHttp(session, "bigdata")
    finally:
        listening.close()


async def test_values_travel_in_the_body_and_never_in_the_address() -> None:
    server = Server(OK)
    async with opened(server) as http:
        assert await http.whole("SELECT {p0:String}", {"p0": "ada@example.org"}, {"max_threads": 2}, "TSV") == b"1\n"
    address, _, rest = server.asked[0].partition(b"\r\n")
    assert b"ada" not in address
    assert b"max_threads=2" in address
    assert b"wait_end_of_query=1" in address
    assert b'name="param_p0"\r\n\r\nada@example.org\r\n' in rest


async def test_a_closed_connection_is_no_error_and_a_server_that_stays_away_is_one() -> None:
    server = Server(OK, None, OK, None, None)
    async with opened(server) as http:
        assert [await http.whole("SELECT 1", {}, {}, "TSV") for _ in range(2)] == [b"1\n", b"1\n"]
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await http.whole("SELECT 1", {}, {}, "TSV")
    assert len(server.asked) == 5
    assert server.asked[1] == server.asked[2]


async def test_a_refusal_has_the_code_of_clickhouse() -> None:
    async with opened(Server(REFUSED)) as http:
        with pytest.raises(RefusedResult) as raised:
            await http.whole("SELECT 1", {}, {}, "TSV")
    assert raised.value.code == 158
