"""docker-compose.yml as docker compose would read it: the environment of each service, with its variables filled in."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from support.repository import ROOT

_VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")


@cache
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def environment_of(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    given = compose()["services"][service]["environment"]
    return {name: filled_in(str(value), variables) for name, value in given.items()}


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    def one(found: re.Match[str]) -> str:
        default = found["word"] if found["kind"] == "-" else None
        value = variables.get(found["name"]) or default
        assert value is not None, f"{found['name']} is not set"
        return value

    return _VARIABLE.sub(one, text).replace("$$", "$")


def example() -> dict[str, str]:
    """.env.example with a value of its own for every CHANGE_ME."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line and not line.startswith("#")]
    return {name: f"{name.lower()}-of-one-installation" if value == "CHANGE_ME" else value for name, value in pairs}
