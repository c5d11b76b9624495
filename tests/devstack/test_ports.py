import socket

import pytest

from devstack import ports


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_a_chosen_port_is_outside_the_range_of_outgoing_connections() -> None:
    assert all(20_000 <= ports.choose() < 32_000 for _ in range(50))


def test_a_taken_port_is_never_chosen() -> None:
    with pytest.raises(ports.NoFreePort):
        ports.choose(range(20_000, 32_000))
