"""Nobody outside names an address that a service would connect to: the bucket is a setting of the operator.

So a bucket address that is private, decimal, IPv6-mapped or redirecting cannot come in. Whoever adds a field that takes
an address adds the checks for those and names the field here.
"""

from collections.abc import Iterator
from typing import Any

from gateway.app import create_app

_ADDRESSES = ("url", "uri", "host", "bucket", "endpoint", "callback", "webhook", "address", "server")
# What the log and its filters call the route that was asked for, and statements of our own.
_NONE = {"endpoint", "endpoints", "status_url"}


def _names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("in") in ("query", "path", "header", "cookie"):
            yield str(node["name"])
        properties = node.get("properties")
        if isinstance(properties, dict):
            yield from properties
        for one in node.values():
            yield from _names(one)
    elif isinstance(node, list):
        for one in node:
            yield from _names(one)


def test_no_parameter_or_field_takes_an_address() -> None:
    document = create_app().openapi()
    names = set(_names(document)) - _NONE
    assert "dataset" in names
    assert [name for name in names if any(part in name.lower() for part in _ADDRESSES)] == []
