"""What the commands of the local stack share: its folder, and its faults as exit codes."""

import asyncio
import os
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bigdata_client.command import Exit, Json, fail
from devstack.local_stack import COMPOSE_FOLDER, FOLDER

if TYPE_CHECKING:
    from devstack.stack import Stack

T = TypeVar("T")
Folder = Annotated[
    Path, typer.Option("--folder", "-C", envvar="BIGDATA_HOME", help="Data folder of the stack.", show_default=True)
]
_KINDS = {"local": ("devstack.stack", "Stack"), "compose": ("devstack.compose", "ComposeStack")}

__all__ = ["FOLDER", "Folder", "Json", "open_stack", "run"]


def open_stack(folder: Path) -> "Stack":
    """The local stack of this folder, or with STACK=compose its containers."""
    kind = os.environ.get("STACK") or "local"
    if kind not in _KINDS:
        fail(f"STACK is local or compose, not {kind}", Exit.USAGE)
    # Here, not above: `bigdata --help` and the client's commands need not wait for the servers' packages.
    module, name = _KINDS[kind]
    try:
        stack: Stack = getattr(import_module(module), name)(
            COMPOSE_FOLDER if kind == "compose" and folder == FOLDER else folder
        )
    except import_module("devstack.process").StackError as exc:
        fail(str(exc), Exit.FAILED)
    return stack


def run(work: Coroutine[Any, Any, T]) -> T:
    process = import_module("devstack.process")
    try:
        return asyncio.run(work)
    except process.StackError as exc:
        fail(str(exc), Exit.FAILED)
    except KeyboardInterrupt:
        fail("interrupted; `bigdata down` stops what was started", Exit.INTERRUPTED)
