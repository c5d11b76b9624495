"""GET /v1/admin/statement: what was granted and charged, over all accounts."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AwareDatetime, Field

from common.postgres import outage_is_unavailable
from gateway.account import Entry, shown_entry
from gateway.answers import CURSOR_HEADER, Cursor, Limit, cursor_of, page, place_of
from gateway.api_keys import Caller, caller_with
from gateway.roles import ADMIN_READERS
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
_LIST = "ledger"


class LedgerEntry(Entry):
    """An entry with whose it is and who made it."""

    user_id: UUID
    username: str | None
    actor: str | None = Field(description="the admin who granted or set it, by name; null of what a query cost")


@router.get("/statement", response_model=list[LedgerEntry])
async def statement_of_all(
    *,
    _: Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))],
    gateway: Annotated[Gateway, Depends(gateway_of)],
    user_id: UUID | None = None,
    kind: Literal["grant", "capture", "refund", "adjustment"] | None = None,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Every change of every balance, newest first. from and to are inclusive; a capture is what a query cost."""
    wanted = {
        "user_id": user_id,
        "kind": kind,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
        "limit": limit,
        "cursor": place_of(gateway.seals, _LIST, cursor, 1)[0],
    }
    asked = {name: str(value) for name, value in wanted.items() if value is not None}
    entries, headers = await gateway.credits.read("/v1/ledger", asked)
    names = await _names(gateway, entries)
    following = headers.get(CURSOR_HEADER)
    return page(
        (_entry(one, names) for one in entries), cursor_of(gateway.seals, _LIST, following) if following else None
    )


def _entry(entry: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    actor = entry["actor"]
    of = {"user_id": entry["user_id"], "username": names.get(entry["user_id"]), "actor": names.get(actor, actor)}
    return {**shown_entry(entry), **of}


_NAMES = "SELECT id::text AS id, username FROM gateway.users WHERE id = ANY ($1)"


async def _names(gateway: Gateway, entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    """By id, those of accounts and of admins."""
    ids = {found for one in entries for who in ("user_id", "actor") if (found := _id_in(one[who])) is not None}
    async with outage_is_unavailable("The users"):
        return {row["id"]: row["username"] for row in await gateway.postgres.fetch(_NAMES, list(ids))}


def _id_in(text: str | None) -> UUID | None:
    """What grants the first credits is a step of ours, with a name and without an id."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
