"""`bigdata erase`: one person is removed from a dataset, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from bigdata_client.command.outcome import Exit, fail, say
from bigdata_client.command.session import Session, with_session

_WAIT_S = 30


def register(app: typer.Typer) -> None:
    app.command("erase", rich_help_panel="Administration")(erase)


@with_session
def erase(
    session: Session,
    *,
    dataset: Annotated[str, typer.Option("--dataset", "-d")] = "people",
    email: Annotated[str | None, typer.Option(help="Who: by e-mail.")] = None,
    phone: Annotated[str | None, typer.Option(help="Who: by phone.")] = None,
    by: Annotated[str | None, typer.Option(metavar="COLUMN=VALUE", help="Who: by any identity.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove one person: rows, earlier versions, quarantine, caches, and whatever a replay would load again."""
    column, _, value = (by or "").partition("=")
    given = [(name, text) for name, text in (("email", email), ("phone", phone), (column, value)) if text]
    if len(given) != 1:
        fail("say who: one of --email, --phone or --by COLUMN=VALUE", Exit.USAGE)
    ((column, value),) = given
    if not yes and not typer.confirm(f"Erase whoever has this {column} from {dataset}? This cannot be undone."):
        say("nothing was erased")
        return
    ask = {"dataset": dataset, "column": column, "value": value, "wait_s": _WAIT_S}
    with session.client(admin=True) as client:
        session.out.item(client.call("POST", "/v1/admin/erasures", json=ask))
