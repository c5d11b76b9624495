"""The `bigdata` command. Every installed package adds its own commands through the entry points `bigdata.commands`."""

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from bigdata_client.command import (
    admin,
    credits_command,
    datasets,
    erase,
    ingest,
    keys,
    profile,
    quarantine,
    query,
    uploads,
    users,
)

_HELP = "BigData API: query big datasets, load them, run the whole system on this machine."
# `admin` last: it repeats groups of the others.
_OWN = (query, datasets, ingest, uploads, quarantine, keys, credits_command, profile, users, erase, admin)


def build() -> typer.Typer:
    """The command with everything that is installed: each entry point is called with it once."""
    app = typer.Typer(
        name="bigdata", help=_HELP, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False
    )
    # Without a callback, typer would turn an app with a single command into that command.
    app.callback()(_bigdata)
    for part in _OWN:
        part.register(app)
    for entry in sorted(entry_points(group="bigdata.commands"), key=lambda entry: entry.name):
        try:
            entry.load()(app)
        except ImportError as exc:
            # One broken package must not take the other commands along.
            sys.stderr.write(f"bigdata: the commands of {entry.name} are missing: {exc}\n")
    return app


def _version(asked: bool) -> None:  # noqa: FBT001 - typer calls it so
    if asked:
        typer.echo(version("bigdata-client"))
        raise typer.Exit


def _bigdata(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version


def main() -> None:
    build()()
