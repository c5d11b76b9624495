"""`bigdata reconcile`: the books, held against each other."""

import json
import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bigdata_client.command import Exit, fail
from devstack.command import FOLDER, Folder, Json, open_stack

if TYPE_CHECKING:
    from devstack.reconcile import Figures

_out = Console(highlight=False, soft_wrap=True)


def reconcile(folder: Folder = FOLDER, *, as_json: Json = False) -> None:
    """Hold the books of the credits service against each other: of CREDITS_URL with CREDITS_TOKENS, else of the stack.

    Exits with 0 when every figure is 0, 1 when anything drifts, 3 when there is nothing to ask.
    """
    books = import_module("devstack.reconcile")
    try:
        figures = books.ask(books.books_of_environment(os.environ) or books.books_of_stack(open_stack(folder)))
    except books.NothingToAsk as exc:
        fail(str(exc), Exit.ABSENT)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show_figures(figures, books.MEANINGS)
    if drifting := books.drifts(figures):
        fail(f"the books drift: {', '.join(drifting)}", Exit.FAILED)


def _show_figures(figures: "Figures", meanings: Mapping[str, str]) -> None:
    table = Table("found", "figure", "counts", box=None, pad_edge=False)
    for name, found in figures.items():
        table.add_row(f"[{'green' if found == 0 else 'red'}]{escape(str(found))}[/]", name, meanings.get(name, ""))
    _out.print(table)
