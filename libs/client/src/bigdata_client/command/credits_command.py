"""`bigdata credits` and `bigdata usage`: what there is, what became of it, who gets more."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bigdata_client.command.groups import group
from bigdata_client.command.paging import Limit, everything
from bigdata_client.command.session import Session, with_session
from bigdata_client.command.users import Who, user_id_of

Amount = Annotated[float, typer.Argument(min=0, help="Credits, with at most three decimals.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept in the ledger.")]
Someone = Annotated[str | None, typer.Argument(metavar="[USER]", help="Id or name; yourself when absent.")]


def register(app: typer.Typer) -> None:
    app.command("usage", rich_help_panel="Account")(usage)
    credits = group(app, "credits", "Credits: balance, statement, grants.", panel="Account")  # noqa: A001
    credits.command("balance")(balance)
    credits.command("statement")(statement)
    credits.command("ledger")(ledger)
    credits.command("grant")(grant)
    credits.command("set")(set_credits)


@with_session
def balance(session: Session, user: Someone = None) -> None:
    """What there is, and what running queries hold of it."""
    with session.client(admin=user is not None) as client:
        if user is None:
            session.out.item(client.credits())
            return
        found = client.user(user_id_of(client, user))
    session.out.item({"username": found.username, "balance": found.credits, "held": found.held})


_ENTRY = ("created_at", "kind", "amount", "balance", "query_id", "reason")


@with_session
def statement(session: Session, user: Someone = None, limit: Limit = 20) -> None:
    """Every change of a balance, newest first."""
    with session.client(admin=user is not None) as client:
        if user is None:
            found = everything(lambda limit, cursor: client.statement(limit=limit, cursor=cursor), limit)
        else:
            of = user_id_of(client, user)
            found = everything(lambda limit, cursor: client.user_statement(of, limit=limit, cursor=cursor), limit)
        session.out.items(found, _ENTRY, none="no entries")


class Kind(StrEnum):
    GRANT = "grant"
    CAPTURE = "capture"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"


@with_session
def ledger(
    session: Session,
    kind: Annotated[Kind | None, typer.Option("--kind", help="A capture is what a query cost.")] = None,
    limit: Limit = 20,
) -> None:
    """The statement of all accounts: who was granted or charged what, and by whom. Needs an admin's key."""
    wanted = {"kind": kind.value} if kind else {}
    with session.client(admin=True) as client:
        found = everything(lambda limit, cursor: client.ledger(limit=limit, cursor=cursor, **wanted), limit)
        session.out.items(found, ("username", *_ENTRY, "actor"), none="no entries")


@with_session
def grant(
    session: Session,
    user: Who,
    amount: Amount,
    reason: Reason = "",
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key twice within a day grants once.")
    ] = None,
) -> None:
    """Give credits to a user."""
    with session.client(admin=True) as client:
        user_id = user_id_of(client, user)
        session.out.item(client.add_credits(user_id, amount, reason=reason, idempotency_key=idempotency_key))


@with_session
def set_credits(session: Session, user: Who, amount: Amount, reason: Reason = "set by an admin") -> None:
    """Set a user's balance; the ledger gets the difference as an adjustment."""
    with session.client(admin=True) as client:
        session.out.item(client.set_credits(user_id_of(client, user), amount, reason=reason))


@with_session
def usage(
    session: Session,
    user: Annotated[str | None, typer.Option("--user", help="Id or name; needs an admin's key.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366)] = 30,
) -> None:
    """Requests and credits by day, in UTC."""
    with session.client(admin=user is not None) as client:
        found = client.usage(days=days) if user is None else client.user_usage(user_id_of(client, user), days=days)
    shown = found if session.out.as_json else [one for one in found if one.requests]
    session.out.items(shown, ("date", "requests", "errors", "rows", "credits_used"), none=f"nothing in {days} days")
