"""`bigdata datasets`: what can be queried, and for how much."""

from __future__ import annotations

from typing import Annotated

import typer

from bigdata_client.command.groups import group
from bigdata_client.command.session import Session, with_session

HELP = "Datasets: what can be queried, and how they are declared."


def register(app: typer.Typer) -> None:
    datasets = group(app, "datasets", HELP, panel="Data")
    datasets.command("list")(list_datasets)
    datasets.command("show")(show)


@with_session
def list_datasets(session: Session) -> None:
    """Every dataset that this key may see."""
    with session.client() as client:
        found = client.datasets()
    session.out.items(found, ("name", "description", "price.per_query", "price.per_row", "freshness.loaded_at"))


@with_session
def show(session: Session, name: Annotated[str, typer.Argument(help="Of `bigdata datasets list`.")]) -> None:
    """One dataset: columns, operators, price and number of rows."""
    with session.client() as client:
        found = client.dataset(name)
    if session.out.as_json:
        session.out.item(found)
        return
    session.out.item(found, hide=["columns"])
    session.out.items(found.columns, ("name", "type", "normalised_as", "pii", "system", "operators"))
