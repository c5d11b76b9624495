"""Commands in groups: `bigdata users list`. Several packages may add to one group."""

from __future__ import annotations

import typer


def group(app: typer.Typer, name: str, help: str | None = None, *, panel: str | None = None) -> typer.Typer:  # noqa: A002
    """The group of this name; it is made when it is not there yet."""
    for known in app.registered_groups:
        if known.name == name and known.typer_instance is not None:
            return known.typer_instance
    made = typer.Typer(no_args_is_help=True, help=help, rich_markup_mode="rich")
    app.add_typer(made, name=name, rich_help_panel=panel)
    return made
