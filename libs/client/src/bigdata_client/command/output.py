"""What a command prints on stdout: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

_out = Console(highlight=False, soft_wrap=True)
# Nobody's terminal ends there: what is read by another program must not be folded to some width.
_PIPE_WIDTH = 100_000


@dataclass(frozen=True)
class Output:
    as_json: bool

    def items(self, items: Iterable[Any], columns: Sequence[str], *, none: str = "none") -> None:
        """A list: as JSON all of each item, as a table the named columns of it (`rows.total` looks inside)."""
        documents = [document_of(one) for one in items]
        if self.as_json:
            self.json(documents)
        elif documents:
            table(columns, ([_at(one, column) for column in columns] for one in documents))
        else:
            _out.print(none, markup=False)

    def item(self, item: Any, *, hide: Sequence[str] = ()) -> None:
        """One thing: a line for each of its fields."""
        document = document_of(item)
        if self.as_json:
            self.json(document)
            return
        shown = {name: value for name, value in _flat(document) if name not in hide}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            _out.print(f"{name:<{width}}  {text_of(value)}", markup=False)

    def json(self, document: Any) -> None:
        typer.echo(json_text(document, indent=2))

    def note(self, text: str) -> None:
        """A sentence for people; programs that asked for JSON do not get it."""
        if not self.as_json:
            _out.print(text, markup=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    shown = Table(box=None, pad_edge=False)
    for column in columns:
        # Folded, never cut; an id stays in one piece, so that it can be copied.
        shown.add_column(column.rpartition(".")[2], overflow="fold", no_wrap=column.endswith("id"))
    for row in rows:
        # Text, not markup: what suppliers and clients send must not colour or hide anything.
        shown.add_row(*(Text(printable(text_of(value))) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(shown)


def document_of(item: Any) -> Any:
    return asdict(item) if is_dataclass(item) and not isinstance(item, type) else item


def json_text(document: Any, *, indent: int | None = None) -> str:
    return json.dumps(document, indent=indent, default=_json_value, ensure_ascii=False)


def text_of(value: Any) -> str:  # noqa: PLR0911 - a table, one line each
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}" if abs(value) < 1e6 else f"{value:.3f}".rstrip("0").rstrip(".")  # noqa: PLR2004
        case list() | tuple():
            return " ".join(
                "+".join(map(text_of, one)) if isinstance(one, list | tuple) else text_of(one) for one in value
            )
        case Mapping():
            return json_text(value)
    return str(value)


def printable(text: str) -> str:
    """Control characters as escapes: a terminal would obey them."""
    return "".join(char if char.isprintable() or char == " " else repr(char)[1:-1] for char in text)


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
