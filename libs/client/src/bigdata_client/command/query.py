"""`bigdata query`: flags or JSON in, rows out as a table, JSON, NDJSON, CSV, Parquet or Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bigdata_client.client import Client
from bigdata_client.command import ask
from bigdata_client.command.query_answer import Delivery, Form
from bigdata_client.command.session import Session, with_session


def register(app: typer.Typer) -> None:
    app.command("query", rich_help_panel="Data")(query)
    app.command("receipt", rich_help_panel="Data")(receipt)


@with_session
def query(
    session: Session,
    *,
    dataset: Annotated[str | None, typer.Argument(help="The dataset; `bigdata datasets list` names them.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="country=IN, age>=18, email^=ann; repeat for AND, FIELD=A FIELD=B for OR."),
    ] = None,
    range_: Annotated[
        list[str] | None, typer.Option("--range", help="FIELD=FROM..TO, both inclusive, either may be absent.")
    ] = None,
    fuzzy: Annotated[
        list[str] | None, typer.Option("--fuzzy", help="FIELD=TEXT contained in any case; FIELD=TEXT@0.6 similar.")
    ] = None,
    select: Annotated[list[str] | None, typer.Option("--select", "-s", help="Columns: email,city.")] = None,
    sort: Annotated[list[str] | None, typer.Option("--sort", help='"age DESC"; repeat for further ones.')] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Rows of a page, or of a stream.")] = None,
    offset: Annotated[int | None, typer.Option("--offset", min=0, help="Rows to skip.")] = None,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Where an earlier page ended.")] = None,
    count: Annotated[str | None, typer.Option("--count", help="exact or none.")] = None,
    group_by: Annotated[list[str] | None, typer.Option("--group-by", help="Aggregate by these columns.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="NAME=FUNCTION, e.g. n='count()' or a='avg(age)'.")
    ] = None,
    max_credits: Annotated[float | None, typer.Option("--max-credits", help="Refuse to cost more.")] = None,
    body: Annotated[
        str | None, typer.Option("--body", "-b", help="The whole query as JSON in a file, - for stdin; flags win.")
    ] = None,
    output: Annotated[Form | None, typer.Option("--output", "-o", help="How the rows are written.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="A file instead of stdout; it appears when it is whole.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Every page to the last, following cursors. Each page costs.")
    ] = False,
    quote: Annotated[bool, typer.Option("--quote", help="Say what it would cost, and run nothing.")] = False,
    wait_for_upload: Annotated[
        str | None, typer.Option("--wait-for-upload", help="Wait until this upload is visible.")
    ] = None,
) -> None:
    """Ask for rows. Costs credits, but nothing when it fails.

    [bold]bigdata query people -w country=IN -w 'age>=18' -s email,city --sort 'age DESC' -n 5[/]
    """
    form = output or (Form.JSON if session.out.as_json else Form.TABLE)
    with session.client() as client:
        filters = ask.filters_of(where or [], _text_fields(client, dataset, where or []))
        asked: dict[str, Any] = ask.body_from_file(body) if body else {}
        flags = {
            "dataset": dataset,
            "filters": filters or None,
            "range": ask.ranges_of(range_ or []) or None,
            "fuzzy": ask.fuzzy_of(fuzzy or []) or None,
            "select": ask.names_of(select or []) or None,
            "sort": sort or None,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
            "count": count,
            "aggregate": ask.aggregate_of(group_by or [], metric or []),
            "max_credits": max_credits,
        }
        asked |= {name: value for name, value in flags.items() if value is not None}
        if quote:
            session.out.item(client.quote(asked))
        else:
            Delivery(client, form, to, wait_for_upload).run(asked, follow=follow)


@with_session
def receipt(session: Session, query_id: Annotated[str, typer.Argument(help="Of a query's metadata.")]) -> None:
    """What a query cost and why."""
    with session.client() as client:
        session.out.item(client.receipt(query_id))


def _text_fields(client: Client, dataset: str | None, where: list[str]) -> set[str]:
    """Asked for only when a value looks like a number: whether 10001 is one is the column's affair."""
    if not ask.looks_typed(where):
        return set()
    known = {one.name: one for one in client.datasets()}
    columns = known[dataset or "people"].columns if (dataset or "people") in known else ()
    return {column.name for column in columns if column.type == "string"}
