"""docs/command-line.md: no command without its place there, no command without help."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from bigdata_client.cli import build
from bigdata_client.command.outcome import Exit
from support.repository import ROOT

_PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """By their path, without groups."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(path), command
        return
    for name, one in inner.items():
        yield from _commands(one, (*path, name))


_COMMANDS = dict(_commands(get_command(build())))


@pytest.mark.parametrize("path", [path for path in _COMMANDS if not re.match(r"admin \w+ ", path)])
def test_every_command_is_shown_in_a_session(path: str) -> None:
    assert re.search(rf"^\$ (.*\W)?bigdata {path}\b", _PAGE, re.MULTILINE), (
        f"bigdata {path} is not in docs/command-line.md"
    )


@pytest.mark.parametrize("path", _COMMANDS)
def test_every_command_says_what_it_does_and_answers_in_json(path: str) -> None:
    command = _COMMANDS[path]
    assert command.help
    assert "--json" in {name for one in command.params for name in one.opts}


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", _PAGE, re.MULTILINE)}
    assert listed == {code.value for code in Exit}


def test_nothing_secret_was_recorded() -> None:
    assert not re.search(r"bd_[\w-]{20,}", _PAGE.replace("bd_not_a_real_key", ""))
    assert not re.search(r"://\w*:(?!…)[^@\s]+@", _PAGE)
