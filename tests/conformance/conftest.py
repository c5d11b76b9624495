"""Brokers are killed here: only Apache Kafka keeps what it acknowledged. `make conformance` starts these tests."""

import os

import pytest

from support.checks import invariants_hold

__all__ = ["invariants_hold"]
_HERE = os.environ.get("KAFKA", "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = item.get_closest_marker("brokers")
        if wanted is not None and wanted.args[0] != _HERE:
            reason = f"runs on KAFKA={wanted.args[0]}, this is {_HERE}: `make conformance` runs both"
            item.add_marker(pytest.mark.skip(reason=reason))
