"""A TCP proxy that tests put between two processes: it can delay, drip, black-hole, reset and half-open connections."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_PIECE_BYTES = 64 * 1024


@dataclass
class Proxy:
    """What the network does right now. Change the fields while connections are open; they all notice."""

    port: int = 0
    target: tuple[str, int] = ("", 0)  # of new connections
    latency_s: float = 0
    drip_bytes_per_s: int = 0
    accepts: int = 0
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _refusing: bool = False
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def connections(self) -> int:
        """Open now; each has two ends."""
        return len(self._writers) // 2

    def black_hole(self) -> None:
        """Connections stay open and nothing arrives any more, in either direction."""
        self._flowing.clear()

    def refuse(self) -> None:
        """Reset what is open and every new connection, as a host without the service does."""
        self._refusing = True
        self.reset()

    def heal(self) -> None:
        self.latency_s = 0
        self.drip_bytes_per_s = 0
        self._refusing = False
        self._flowing.set()

    def reset(self) -> None:
        """Cut every open connection with RST: both ends see an error, not an orderly end."""
        for writer in list(self._writers):
            _abort(writer)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while piece := await source.read(_PIECE_BYTES):
                await self._flowing.wait()
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                await self._forward(piece, sink)
            sink.write_eof()

    async def _forward(self, piece: bytes, sink: asyncio.StreamWriter) -> None:
        step = len(piece) if not self.drip_bytes_per_s else 1
        for start in range(0, len(piece), step):
            sink.write(piece[start : start + step])
            await sink.drain()
            if self.drip_bytes_per_s:
                await asyncio.sleep(1 / self.drip_bytes_per_s)


@asynccontextmanager
async def open_proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """Listen on a free loopback port and forward to host:port."""
    proxy = Proxy(target=(host, port))
    proxy.heal()
    pumps: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.accepts += 1
        if proxy._refusing:
            _abort(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*proxy.target)
        except OSError:
            _abort(writer)
            return
        both = {writer, far_writer}
        proxy._writers |= both
        tasks = {
            asyncio.create_task(proxy._pump(reader, far_writer)),
            asyncio.create_task(proxy._pump(far_reader, writer)),
        }
        pumps.update(tasks)
        await asyncio.wait(tasks)
        pumps.difference_update(tasks)
        proxy._writers -= both
        for one in both:
            one.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(pumps):
            task.cancel()
        proxy.reset()


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
