"""The log of requests: its last entries, or live. `bigdata admin logs`, and `bigdata logs --tail`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bigdata_client.client import Client
from bigdata_client.command.output import json_text, printable, text_of
from bigdata_client.command.paging import Limit, everything
from bigdata_client.command.session import Session, with_session
from bigdata_client.command.users import user_id_of

_COLUMNS = (
    "created_at",
    "username",
    "method",
    "endpoint",
    "status",
    "duration_ms",
    "rows",
    "credits_used",
    "request_id",
)


@with_session
def logs(
    session: Session,
    *,
    user: Annotated[str | None, typer.Option("--user", help="Id or name.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="A route, e.g. /v1/query.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="An HTTP status, or 4xx for all of them.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset")] = None,
    error_code: Annotated[str | None, typer.Option("--error-code", help="E.g. insufficient_credits.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="What was done, e.g. create-user.")] = None,
    slower_than_ms: Annotated[float | None, typer.Option("--slower-than-ms", min=0)] = None,
    since: Annotated[str | None, typer.Option("--from", help="A moment, e.g. 2026-01-01T00:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="A moment.")] = None,
    limit: Limit = 20,
    tail: Annotated[bool, typer.Option("--tail", help="Go on live until interrupted.")] = False,
) -> None:
    """The log of requests, newest first; with --tail live, newest last."""
    wanted: dict[str, Any] = {
        "endpoint": endpoint,
        "status": status,
        "dataset": dataset,
        "error_code": error_code,
        "action": action,
        "slower_than_ms": slower_than_ms,
        "from": since,
        "to": until,
    }
    with session.client(admin=True) as client:
        if user:
            wanted["user_id"] = user_id_of(client, user)
        wanted = {name: value for name, value in wanted.items() if value is not None}
        if tail:
            follow(session, client, wanted)
            return
        found = everything(lambda limit, cursor: client.logs(limit=limit, cursor=cursor, **wanted), limit)
        session.out.items(found, _COLUMNS, none="no request like that")


def follow(session: Session, client: Client, wanted: dict[str, Any]) -> None:
    for entry in client.tail_logs(**wanted):
        if session.out.as_json:
            typer.echo(json_text(entry))
        else:
            typer.echo(_line(entry))


def _line(entry: dict[str, Any]) -> str:
    who = entry.get("username") or "-"
    return printable(
        f"{text_of(entry.get('created_at')):<27} {entry.get('status', ''):>3} {entry.get('method', ''):<6} "
        f"{entry.get('endpoint', '')}  {who}  {text_of(entry.get('duration_ms'))} ms  "
        f"{text_of(entry.get('rows'))} rows  {text_of(entry.get('credits_used'))} credits"
    )
