"""`bigdata admin`: what admins do, in one place; users, credits and uploads are the same commands as outside of it."""

from __future__ import annotations

import typer

from bigdata_client.command import request_log
from bigdata_client.command.groups import group
from bigdata_client.command.session import Session, with_session

_SHARED = ("users", "credits", "uploads", "quarantine")


def register(app: typer.Typer) -> None:
    admin = group(app, "admin", "The admin side: users, credits, uploads, logs, figures.", panel="Administration")
    for name in _SHARED:
        admin.add_typer(group(app, name), name=name)
    admin.command("logs")(request_log.logs)
    admin.command("stats")(stats)


@with_session
def stats(session: Session) -> None:
    """Figures of today and of the last 30 days, in UTC."""
    with session.client(admin=True) as client:
        found = client.admin_stats()
    session.out.item(found, hide=["daily_usage"])
    if not session.out.as_json:
        days = [one for one in found.daily_usage if one.requests or one.new_users]
        session.out.items(days, ("date", "requests", "credits_used", "new_users"), none="no requests in 30 days")
