"""The `bigdata` command. Every installed package adds its own commands through the entry points `bigdata.commands`."""

import sys
from importlib.metadata import entry_points

import typer

_HELP = "BigData API: query big datasets, load them, run the whole system on this machine."


def build() -> typer.Typer:
    """The command with everything that is installed: each entry point is called with it once."""
    app = typer.Typer(name="bigdata", help=_HELP, no_args_is_help=True, rich_markup_mode="rich")
    # Without a callback, typer would turn an app with a single command into that command.
    app.callback()(_bigdata)
    for entry in sorted(entry_points(group="bigdata.commands"), key=lambda entry: entry.name):
        try:
            entry.load()(app)
        except ImportError as exc:
            # One broken package must not take the other commands along.
            sys.stderr.write(f"bigdata: the commands of {entry.name} are missing: {exc}\n")
    return app


def _bigdata() -> None:
    return


def main() -> None:
    build()()
