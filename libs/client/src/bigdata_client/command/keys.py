"""`bigdata keys`: your own API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from bigdata_client.account import NewKey
from bigdata_client.command.ask import names_of
from bigdata_client.command.groups import group
from bigdata_client.command.session import Session, with_session

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Of `bigdata keys list`.")]
_COLUMNS = ("id", "name", "prefix", "scopes", "created_at", "expires_at", "revoked_at", "last_used_at")


def register(app: typer.Typer) -> None:
    keys = group(app, "keys", "Your API keys.", panel="Account")
    keys.command("list")(list_keys)
    keys.command("create")(create)
    keys.command("rotate")(rotate)
    keys.command("revoke")(revoke)
    app.command("whoami", rich_help_panel="Account")(whoami)


@with_session
def whoami(session: Session) -> None:
    """Whose key this is, and which gateway it opens."""
    target = session.target()
    with session.client() as client:
        me = client.me()
    session.out.item({"gateway": target.url, "found_in": target.source, **me.__dict__})


@with_session
def list_keys(session: Session) -> None:
    """Your keys, never more of one than its prefix."""
    with session.client() as client:
        session.out.items(client.keys(), _COLUMNS, none="no keys")


@with_session
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="query, read, ingest, pii; default: this key's.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="It expires after so many days.")] = None,
) -> None:
    """A further key. It is shown this once."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with session.client() as client:
        _show_once(session, client.create_key(name, scopes=names_of(scope) if scope else None, expires_at=expires_at))


@with_session
def rotate(
    session: Session,
    key_id: KeyId,
    grace: Annotated[int, typer.Option("--grace", min=0, help="Seconds that the old key still works.")] = 0,
) -> None:
    """A new key in the place of this one. It is shown this once."""
    with session.client() as client:
        _show_once(session, client.rotate_key(key_id, grace_s=grace))


@with_session
def revoke(session: Session, key_id: KeyId) -> None:
    """Refuse a key from now on."""
    with session.client() as client:
        client.revoke_key(key_id)
    session.out.item({"revoked": key_id})


def _show_once(session: Session, made: NewKey) -> None:
    session.out.item(made)
    session.out.note("This key is shown only once.")
