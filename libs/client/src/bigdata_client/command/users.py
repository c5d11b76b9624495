"""`bigdata users`: who may ask, with which role and key."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import typer

from bigdata_client.admin import User
from bigdata_client.client import Client
from bigdata_client.command.groups import group
from bigdata_client.command.outcome import Exit, Stop
from bigdata_client.command.paging import Limit, everything
from bigdata_client.command.session import Session, with_session

Who = Annotated[str, typer.Argument(metavar="USER", help="Id or name.")]
_COLUMNS = ("id", "username", "role", "status", "plan", "credits", "created_at", "last_used_at")


class Role(StrEnum):
    SUPER_ADMIN = "super_admin"
    ADMIN = "admin"
    VIEWER = "viewer"
    USER = "user"


def register(app: typer.Typer) -> None:
    users = group(app, "users", "Users: who may ask, with which role and key.", panel="Administration")
    users.command("list")(list_users)
    users.command("show")(show)
    users.command("create")(create)
    users.command("disable")(disable)
    users.command("enable")(enable)
    users.command("role")(role)
    users.command("rotate")(rotate)


@with_session
def list_users(
    session: Session,
    *,
    search: Annotated[str | None, typer.Option("--search", help="A part of the name.")] = None,
    role: Annotated[Role | None, typer.Option("--role")] = None,
    status: Annotated[str | None, typer.Option("--status", help="active or disabled.")] = None,
    sort: Annotated[str | None, typer.Option("--sort", help='E.g. "credits ASC".')] = None,
    limit: Limit = 100,
) -> None:
    """Users with their balances, newest first."""
    wanted = {"search": search, "role": role, "status": status, "sort": sort}
    asked = {name: str(value) for name, value in wanted.items() if value is not None}
    with session.client(admin=True) as client:
        found = everything(lambda limit, cursor: client.users(limit=limit, cursor=cursor, **asked), limit)
        session.out.items(found, _COLUMNS, none="no user like that")


@with_session
def show(session: Session, user: Who) -> None:
    """One user: balance, requests and keys."""
    with session.client(admin=True) as client:
        found = client.user(user_id_of(client, user))
    if session.out.as_json:
        session.out.item(found)
        return
    session.out.item(found, hide=["keys"])
    session.out.items(found.keys, ("id", "name", "prefix", "expires_at", "revoked_at", "last_used_at"), none="no keys")


@with_session
def create(
    session: Session,
    username: Annotated[str, typer.Argument(help="Unique, whatever its case.")],
    role: Annotated[Role, typer.Option("--role")] = Role.USER,
    credits: Annotated[float, typer.Option("--credits", min=0, help="To begin with.")] = 100,  # noqa: A002
    plan: Annotated[str, typer.Option("--plan", help="Its limits on requests.")] = "standard",
) -> None:
    """Create a user. The key is shown this once."""
    with session.client(admin=True) as client:
        made = client.create_user(username, role=role.value, credits=credits, plan=plan)
    if session.out.as_json:
        session.out.item(made)
        return
    session.out.item(made.user, hide=["last_used_at"])
    session.out.note(f"api key     {made.api_key}\nThis key is shown only once: hand it over now.")


@with_session
def disable(session: Session, user: Who) -> None:
    """Refuse all keys of a user from now on."""
    _set_status(session, user, "disabled")


@with_session
def enable(session: Session, user: Who) -> None:
    """Let a disabled user in again; their keys work as before."""
    _set_status(session, user, "active")


@with_session
def role(session: Session, user: Who, role: Annotated[Role, typer.Argument(help="The new role.")]) -> None:
    """Give a user another role."""
    with session.client(admin=True) as client:
        session.out.item(client.change_role(user_id_of(client, user), role.value))


@with_session
def rotate(
    session: Session,
    user: Who,
    grace: Annotated[int, typer.Option("--grace", min=0, help="Seconds that the old keys still work.")] = 0,
) -> None:
    """A new key in the place of all keys of a user. It is shown this once."""
    with session.client(admin=True) as client:
        made = client.regenerate_key(user_id_of(client, user), grace_s=grace)
    if session.out.as_json:
        session.out.item({"user": user, "api_key": made.api_key, "grace_seconds": grace})
        return
    session.out.note(f"{made.api_key}\nThis key is shown only once; the old ones end in {grace} s.")


def _set_status(session: Session, user: str, status: str) -> None:
    with session.client(admin=True) as client:
        session.out.item(client.set_status(user_id_of(client, user), "active" if status == "active" else "disabled"))


def user_id_of(client: Client, user: str) -> str:
    """By id, or by name in any case. Stops with the names that look alike."""
    try:
        return str(UUID(user))
    except ValueError:
        pass
    alike: list[User] = list(
        everything(lambda limit, cursor: client.users(limit=limit, cursor=cursor, search=user), 1000)
    )
    for one in alike:
        if one.username.lower() == user.lower():
            return one.id
    near = [one.username for one in alike][:5] or _near(client, user)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise Stop(f"there is no user named {user!r}{hint}", Exit.REFUSED)


def _near(client: Client, user: str) -> list[str]:
    return get_close_matches(user, [one.username for one in client.users(limit=1000).items], 3)
