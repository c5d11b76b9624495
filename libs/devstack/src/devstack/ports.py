"""Free ports on the loopback address."""

import asyncio
import random
import socket
import time
from collections.abc import Collection

HOST = "127.0.0.1"
# Below every system's ephemeral range: an outgoing connection of anybody must not take a port between choice and use.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 1_000
_FREE_S = 3.0
_POLL_S = 0.05


class NoFreePort(Exception):
    """Not one free port was found."""


def is_free(port: int) -> bool:
    """True when a server could listen there now (connections still in TIME_WAIT do not hinder a server)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


async def comes_free(port: int) -> bool:
    """For a part's own port. Killed, it looks dead as soon as its first thread is; its last one gives the port back."""
    give_up = time.monotonic() + _FREE_S
    while not is_free(port):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def choose(taken: Collection[int] = ()) -> int:
    """A free port outside `taken`; random, so that two stacks starting together rarely want the same."""
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 - not a secret
        if port not in taken and is_free(port):
            return port
    raise NoFreePort(f"no free port between {_LOWEST} and {_HIGHEST} after {_TRIES} tries")
