"""What the commands of the local stack share: its folder, and its faults as exit codes."""

import asyncio
from collections.abc import Coroutine
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from bigdata_client.command import Exit, Json, fail

if TYPE_CHECKING:
    from devstack.stack import Stack

T = TypeVar("T")
Folder = Annotated[
    Path, typer.Option("--folder", "-C", envvar="BIGDATA_HOME", help="Data folder of the stack.", show_default=True)
]
FOLDER = Path(".bigdata")

__all__ = ["FOLDER", "Folder", "Json", "open_stack", "run"]


def open_stack(folder: Path) -> "Stack":
    # Here, not above: `bigdata --help` and the client's commands need not wait for the servers' packages.
    module = import_module("devstack.stack")
    try:
        stack: Stack = module.Stack(folder)
    except module.StackError as exc:
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
