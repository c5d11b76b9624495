"""`bigdata up | down | status | demo | logs | reconcile | dead-letters`."""

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devstack import dead_letters

if TYPE_CHECKING:
    from devstack.reconcile import Figures
    from devstack.stack import Progress, Stack
    from devstack.status import Status

T = TypeVar("T")

_DEAD, _ABSENT, _INTERRUPTED = 1, 3, 130
_DRIFT = 1
_POLL_S = 0.2
_COLOURS = {"running": "green", "dead": "red", "stopped": "dim"}
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

Folder = Annotated[
    Path, typer.Option("--folder", "-C", envvar="BIGDATA_HOME", help="Data folder of the stack.", show_default=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
_FOLDER = Path(".bigdata")


def register(app: typer.Typer) -> None:
    for command in (up, down, status, demo, logs):
        app.command(rich_help_panel="Local stack")(command)
    app.command(rich_help_panel="Operations")(reconcile)
    app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Operations")


def up(
    folder: Folder = _FOLDER,
    *,
    as_json: Json = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="PostgreSQL, Redis, Kafka, ClickHouse and the bucket; no services.")
    ] = False,
    port: Annotated[list[str] | None, typer.Option(help="Ask for a port, e.g. gateway=8080; may be repeated.")] = None,
) -> None:
    """Start the local stack, or what is missing of it. For development, tests and demonstration only."""
    stack = _open(folder)
    began = time.monotonic()
    _run(stack.up(servers_only=servers_only, ports_wanted=_ports(port or []), report=_show))
    if as_json:
        typer.echo(json.dumps(stack.status().to_json(), indent=2))
        return
    _show_addresses(stack.status())
    _out.print(f"ready in {time.monotonic() - began:.1f} s; for development, tests and demonstration only")


def down(
    folder: Folder = _FOLDER,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Delete all data of this stack as well.")] = False,
) -> None:
    """Stop the local stack; its data stays for the next `up`."""
    stack = _open(folder)
    if not stack.exists():
        _err.print(f"no stack in {stack.folder}")
        return
    for name in _run(stack.down(purge=purge)):
        _err.print(f"[yellow]{name} did not stop in time and was killed[/]")
    _out.print(f"stopped; data {'deleted' if purge else 'kept in ' + str(stack.folder)}")


def status(folder: Folder = _FOLDER, *, as_json: Json = False) -> None:
    """Where everything is. Exits with 0 when all runs, 1 when a part died, 3 when no stack runs."""
    stack = _open(folder)
    if not stack.exists():
        _fail(f"no stack in {stack.folder}: run `bigdata up`", _ABSENT)
    found = stack.status()
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_processes(found)
        _show_addresses(found)
    for name, one in found.dead.items():
        _err.print(f"[red]{name} {one.detail}[/]; its log: {one.log}")
    if found.dead:
        _fail("run `bigdata up` to bring it back", _DEAD)
    if not found.running:
        _fail("the stack is stopped: run `bigdata up`", _ABSENT)


def demo(folder: Folder = _FOLDER, *, as_json: Json = False) -> None:
    """Start the stack if needed, load real data, query it, show what it cost."""
    stack = _open(folder)
    summary = _run(import_module("devstack.demo").run(stack, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2, default=str))


def logs(
    name: Annotated[str | None, typer.Argument(help="A part, as `bigdata status` names it; all when absent.")] = None,
    folder: Folder = _FOLDER,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
) -> None:
    """The logs of one part or of all."""
    folder = folder.expanduser().resolve()
    files = {path.stem: path for path in sorted((folder / "logs").glob("*.log"))}
    if name is not None and name not in files:
        _fail(f"no log of {name} in {folder}; there are: {', '.join(files) or 'none'}", _ABSENT)
    chosen = files if name is None else {name: files[name]}
    prefix = len(chosen) > 1
    offsets = {one: _print_last(one, path, lines, prefix=prefix) for one, path in chosen.items()}
    while follow:
        time.sleep(_POLL_S)
        for one, path in chosen.items():
            offsets[one] = _print_new(one, path, offsets[one], prefix=prefix)


def reconcile(folder: Folder = _FOLDER, *, as_json: Json = False) -> None:
    """Hold the books of the credits service against each other: of CREDITS_URL with CREDITS_TOKENS, else of the stack.

    Exits with 0 when every figure is 0, 1 when anything drifts, 3 when there is nothing to ask.
    """
    books = import_module("devstack.reconcile")
    try:
        figures = books.ask(books.books_of_environment(os.environ) or books.books_of_stack(_open(folder)))
    except books.NothingToAsk as exc:
        _fail(str(exc), _ABSENT)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show_figures(figures, books.MEANINGS)
    if drifting := books.drifts(figures):
        _fail(f"the books drift: {', '.join(drifting)}", _DRIFT)


def _open(folder: Path) -> "Stack":
    # Here, not above: `bigdata --help` and the client's commands need not wait for the servers' packages.
    module = import_module("devstack.stack")
    try:
        stack: Stack = module.Stack(folder)
    except module.StackError as exc:
        _fail(str(exc), _DEAD)
    return stack


def _run(work: Coroutine[Any, Any, T]) -> T:
    process = import_module("devstack.process")
    try:
        return asyncio.run(work)
    except process.StackError as exc:
        _fail(str(exc), _DEAD)
    except KeyboardInterrupt:
        _fail("interrupted; `bigdata down` stops what was started", _INTERRUPTED)


def _fail(message: str, code: int) -> NoReturn:
    _err.print(message, markup=False)
    raise typer.Exit(code)


def _ports(wanted: list[str]) -> dict[str, int]:
    try:
        return {name: int(number) for name, number in (one.split("=") for one in wanted)}
    except ValueError:
        raise typer.BadParameter("write it as NAME=NUMBER, e.g. gateway=8080") from None


def _show(progress: "Progress") -> None:
    if not _err.is_terminal:
        return
    note = f"  [yellow]{progress.note}[/]" if progress.note else ""
    _err.print(f"[green]ready[/]  {progress.name:<14} {progress.seconds:5.1f} s{note}")


def _show_processes(found: "Status") -> None:
    table = Table("part", "state", "pid", "port", box=None, pad_edge=False)
    for name, one in found.processes.items():
        state = f"[{_COLOURS[one.state]}]{one.state}[/]" + (f" ({one.detail})" if one.detail else "")
        table.add_row(name, state, str(one.pid), str(one.port))
    _out.print(table)
    _out.print(f"logs         {found.folder}/logs, or `bigdata logs NAME`", markup=False)


def _show_addresses(found: "Status") -> None:
    rows = {
        "gateway": found.gateway,
        "credits": found.credits,
        "postgres": found.postgres,
        "clickhouse": found.clickhouse,
        "redis": found.redis,
        "kafka": found.kafka,
        "bucket": found.bucket,
        "admin key": found.admin_key,
        "user key": found.user_key,
    }
    for name, value in rows.items():
        if value is not None:
            _out.print(f"{name:<12} {value}", markup=False)


def _show_figures(figures: "Figures", meanings: Mapping[str, str]) -> None:
    table = Table("found", "figure", "counts", box=None, pad_edge=False)
    for name, found in figures.items():
        table.add_row(f"[{'green' if found == 0 else 'red'}]{escape(str(found))}[/]", name, meanings.get(name, ""))
    _out.print(table)


def _print_last(name: str, path: Path, lines: int, *, prefix: bool) -> int:
    with path.open("rb") as log:
        for line in deque(log, maxlen=lines):
            _print_line(name, line, prefix=prefix)
        return log.tell()


def _print_new(name: str, path: Path, offset: int, *, prefix: bool) -> int:
    """Whole lines only; a log that was replaced is read from its beginning."""
    with path.open("rb") as log:
        log.seek(offset if path.stat().st_size >= offset else 0)
        offset = log.tell()
        for line in log:
            if line.endswith(b"\n"):
                _print_line(name, line, prefix=prefix)
                offset += len(line)
    return offset


def _print_line(name: str, line: bytes, *, prefix: bool) -> None:
    text = line.decode("utf-8", "replace").rstrip("\n")
    typer.echo(f"{name:<14} | {text}" if prefix else text)
