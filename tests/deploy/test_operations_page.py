"""Whoever is paged follows docs/operations.md to the letter: what it names is there."""

import re
from collections.abc import Iterable
from typing import Any

import typer.main

from bigdata_client.cli import build
from common.metrics import NAMES
from support.compose_file import example
from support.repository import ROOT
from support.services_settings import SETTINGS

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`\n]+)`", PAGE)
RUNBOOKS = PAGE.partition("\n## Runbooks\n")[2].partition("\n## ")[0].split("\n### ")[1:]
# What the page's own commands take, and what an image's user gives to its Kubernetes.
_OTHERS = {"STACK", "BIGDATA_TAG", "CREDITS_URL", "CHANGE_ME"}


def test_its_metrics_exist() -> None:
    assert set(re.findall(r"\bbigdata_[a-z_]+[a-z]\b", PAGE)) - set(NAMES) == set()


def test_its_settings_exist() -> None:
    known = {field.upper() for settings in SETTINGS.values() for field in settings.model_fields}
    named = {name for quoted in QUOTED for name in re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", quoted)}
    assert named - known - example().keys() - _OTHERS == set()


def test_its_files_exist() -> None:
    named = set(re.findall(r"\b(?:docs|deploy|tests|configs|benchmarks)/[\w./-]+[\w/]", PAGE))
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_its_commands_exist() -> None:
    root = typer.main.get_command(build())
    named = [
        quoted.partition("bigdata ")[2].split() for quoted in QUOTED if re.match(r"(STACK=compose )?bigdata ", quoted)
    ]
    assert len(named) > 5
    for words in named:
        assert _leads_to_a_command(root, words), words


def _leads_to_a_command(command: Any, words: Iterable[str]) -> bool:
    """Through groups by name; then every option that is written out must be one of the command's."""
    rest = list(words)
    while commands := getattr(command, "commands", None):
        command = commands.get(rest.pop(0)) if rest else None
    if command is None:
        return False
    options = {name for one in command.params for name in one.opts}
    return {word for word in rest if word.startswith("--")} <= options


def test_each_runbook_says_how_it_looks_why_what_to_do_and_when_it_is_over() -> None:
    assert len(RUNBOOKS) > 10
    for runbook in RUNBOOKS:
        assert re.findall(r"^- \*\*(\w+):\*\*", runbook, re.MULTILINE) == ["Looks", "Why", "Do", "Over"], runbook
