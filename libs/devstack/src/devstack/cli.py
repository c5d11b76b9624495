"""`bigdata up | down | status | demo | logs | reconcile | backup | restore | dead-letters`."""

import json
import time
from dataclasses import asdict
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bigdata_client.command import Exit, fail
from devstack import dead_letters
from devstack.backup_command import backup, restore
from devstack.command import FOLDER, Folder, Json, open_stack, run
from devstack.dataset_check import register as register_dataset_check
from devstack.logs_command import logs
from devstack.reconcile_command import reconcile

if TYPE_CHECKING:
    from devstack.stack import Progress
    from devstack.status import Status

_COLOURS = {"running": "green", "dead": "red", "stopped": "dim"}
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    for command in (up, down, status, demo, logs):
        app.command(rich_help_panel="Local stack")(command)
    operations = app.command(rich_help_panel="Operations")
    operations(reconcile)
    operations(backup)
    operations(restore)
    register_dataset_check(app)
    app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel="Operations")


def up(
    folder: Folder = FOLDER,
    *,
    as_json: Json = False,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="PostgreSQL, Redis, Kafka, ClickHouse and the bucket; no services.")
    ] = False,
    port: Annotated[list[str] | None, typer.Option(help="Ask for a port, e.g. gateway=8080; may be repeated.")] = None,
    kafka: Annotated[
        str | None,
        typer.Option(help="local (the default), apache or apache3 (Java 17, Maven).", metavar="BROKER"),
    ] = None,
) -> None:
    """Start the local stack, or what is missing of it. For development, tests and demonstration only."""
    stack = open_stack(folder)
    began = time.monotonic()
    run(stack.up(servers_only=servers_only, ports_wanted=_ports(port or []), kafka=kafka, report=_show))
    if as_json:
        typer.echo(json.dumps(stack.status().to_json(), indent=2))
        return
    _show_addresses(stack.status())
    _out.print(f"ready in {time.monotonic() - began:.1f} s; for development, tests and demonstration only")


def down(
    folder: Folder = FOLDER,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Delete all data of this stack as well.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the local stack; its data stays for the next `up`."""
    stack = open_stack(folder)
    known = stack.exists()
    killed = run(stack.down(purge=purge)) if known else []
    if as_json:
        typer.echo(json.dumps({"folder": str(stack.folder), "stopped": known, "purged": purge, "killed": killed}))
        return
    if not known:
        _err.print(f"no stack in {stack.folder}")
        return
    for name in killed:
        _err.print(f"[yellow]{name} did not stop in time and was killed[/]")
    _out.print(f"stopped; data {'deleted' if purge else 'kept in ' + str(stack.folder)}")


def status(folder: Folder = FOLDER, *, as_json: Json = False) -> None:
    """Where everything is. Exits with 0 when all runs, 1 when a part died, 3 when no stack runs."""
    stack = open_stack(folder)
    if not stack.exists():
        fail(f"no stack in {stack.folder}: run `bigdata up`", Exit.ABSENT)
    found = stack.status()
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show_processes(found)
        _show_addresses(found)
    for name, one in found.dead.items():
        _err.print(f"[red]{name} {one.detail}[/]; its log: {one.log}")
    if found.dead:
        fail("run `bigdata up` to bring it back", Exit.FAILED)
    if not found.running:
        fail("the stack is stopped: run `bigdata up`", Exit.ABSENT)


def demo(folder: Folder = FOLDER, *, as_json: Json = False) -> None:
    """Start the stack if needed, load real data, query it, show what it cost."""
    stack = open_stack(folder)
    summary = run(import_module("devstack.demo").run(stack, quiet=as_json))
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2, default=str))


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
