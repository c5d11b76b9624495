"""`bigdata query`: flags or JSON in, rows out as a table, JSON, NDJSON, CSV, Parquet or Arrow."""

from __future__ import annotations

from typing import Annotated

import typer

from bigdata_client.client import Client
from bigdata_client.command import ask
from bigdata_client.command import query_options as options
from bigdata_client.command.query_answer import Delivery, Form
from bigdata_client.command.session import Session, with_session


def register(app: typer.Typer) -> None:
    app.command("query", rich_help_panel="Data")(query)
    app.command("receipt", rich_help_panel="Data")(receipt)


@with_session
def query(
    session: Session,
    *,
    dataset: options.Dataset = None,
    where: options.Where = None,
    range_: options.Range = None,
    fuzzy: options.Fuzzy = None,
    select: options.Select = None,
    sort: options.Sort = None,
    limit: options.Limit = None,
    offset: options.Offset = None,
    cursor: options.Cursor = None,
    count: options.Count = None,
    group_by: options.GroupBy = None,
    metric: options.Metric = None,
    max_credits: options.MaxCredits = None,
    body: options.Body = None,
    output: options.As = None,
    to: options.To = None,
    follow: options.Follow = False,
    quote: options.Quote = False,
    wait_for_upload: options.WaitForUpload = None,
) -> None:
    """Ask for rows. Costs credits, but nothing when it fails.

    [bold]bigdata query people -w country=IN -w 'age>=18' -s email,city --sort 'age DESC' -n 5[/]
    """
    form = output or (Form.JSON if session.out.as_json else Form.TABLE)
    with session.client() as client:
        flags = {
            "dataset": dataset,
            "filters": ask.filters_of(where or [], _text_fields(client, dataset, where or [])),
            "range": ask.ranges_of(range_ or []),
            "fuzzy": ask.fuzzy_of(fuzzy or []),
            "select": ask.names_of(select or []),
            "sort": sort,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
            "count": count,
            "aggregate": ask.aggregate_of(group_by or [], metric or []),
            "max_credits": max_credits,
        }
        asked = ask.body_of(body, flags)
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
