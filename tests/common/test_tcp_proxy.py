"""The instrument itself: a fault test is worth as much as the fault it makes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.tcp_proxy import Proxy, open_proxy


@pytest.fixture
async def echo() -> AsyncIterator[Proxy]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(100):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with open_proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()


async def test_it_forwards_both_ways(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
    writer.close()


async def test_a_black_hole_keeps_the_connection_and_delivers_after_healing(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    echo.black_hole()
    writer.write(b"hello")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(5), 0.2)
    echo.heal()
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
    writer.close()


async def test_a_reset_is_an_error_and_not_an_end(echo: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"hello")
    await asyncio.wait_for(reader.readexactly(5), 5)
    echo.reset()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)
    writer.close()
