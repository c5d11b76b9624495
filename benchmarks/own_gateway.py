"""A gateway process of a benchmark's own, on the stack's servers: as it is, or as one of the modules beside this."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from devstack import ports
from devstack.ports import HOST
from devstack.stack import Stack

_READY_S = 60


@asynccontextmanager
async def own_gateway(stack: Stack, module: str, name: str) -> AsyncIterator[int]:
    """Its port. `module` is what runs: "gateway", or one that leaves a part of it out."""
    port = ports.choose([])
    ops_port = ports.choose([port])
    environment = stack.environment("gateway") | {
        "SERVER_PORT": str(port),
        "OPS_PORT": str(ops_port),
        "SPOOL_FOLDER": str(Path(stack.folder) / "spool" / name),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "serve"),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _ready(port)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def _ready(port: int) -> None:
    async with asyncio.timeout(_READY_S), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"http://{HOST}:{port}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
