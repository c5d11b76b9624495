"""Free ports on the loopback address."""

import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"
# Below every system's ephemeral range: an outgoing connection of anybody must not take a port between choice and use.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 1_000


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


def choose(taken: Collection[int] = ()) -> int:
    """A free port outside `taken`; random, so that two stacks starting together rarely want the same."""
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 - not a secret
        if port not in taken and is_free(port):
            return port
    raise NoFreePort(f"no free port between {_LOWEST} and {_HIGHEST} after {_TRIES} tries")
