"""What callers see of themselves: who they are, their credits, receipts and usage."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from common.postgres import outage_is_unavailable
from gateway.answers import CURSOR_HEADER, Cursor, Limit, cursor_of, one, page, place_of, public
from gateway.api_keys import Caller, caller_with
from gateway.usage import DayOfUsage, OwnStats, stats_of, usage_by_day
from gateway.wiring import Gateway, gateway_of

router = APIRouter(tags=["account"])
Reading = Annotated[Caller, Depends(caller_with("read"))]
Running = Annotated[Gateway, Depends(gateway_of)]
Days = Annotated[int, Query(ge=1, le=366, description="how many, today included")]


class Me(BaseModel):
    id: UUID
    username: str
    role: str
    plan: str
    scopes: list[str]
    key_id: UUID


@router.get("/v1/me", response_model=Me)
async def me(caller: Reading) -> Response:
    return one(
        {
            "id": caller.user_id,
            "username": caller.username,
            "role": caller.role,
            "plan": caller.plan,
            "scopes": sorted(caller.scopes),
            "key_id": caller.key_id,
        }
    )


class Balance(BaseModel):
    balance: float
    held: float
    available: float


_BALANCE = (
    "SELECT posted AS balance_mc, held AS held_mc, available AS available_mc FROM credits.balances WHERE user_id = $1"
)
_NOTHING = {"balance_mc": 0, "held_mc": 0, "available_mc": 0}


@router.get("/v1/credits", response_model=Balance)
async def balance(caller: Reading, gateway: Running) -> Response:
    """The balance, and the part of it that running queries hold. A finished query is settled within 100 ms."""
    async with outage_is_unavailable("The credits store"):
        row = await gateway.postgres.fetchrow(_BALANCE, caller.user_id)
    return one(row or _NOTHING)


class Entry(BaseModel):
    entry_id: UUID
    kind: Literal["grant", "capture", "refund", "adjustment"]
    amount: float
    balance: float
    query_id: UUID | None
    reason: str | None
    created_at: datetime


@router.get("/v1/credits/statement", response_model=list[Entry])
async def statement(caller: Reading, gateway: Running, limit: Limit = 100, cursor: Cursor = None) -> Response:
    """Every change of the balance, newest first. A capture's query_id leads to its receipt."""
    return await statement_of(caller.user_id, gateway, limit=limit, cursor=cursor)


_STATEMENT = "statement"


async def statement_of(user_id: UUID, gateway: Gateway, *, limit: int, cursor: str | None) -> Response:
    asked = {"user_id": str(user_id), "limit": str(limit)}
    if cursor is not None:
        asked["cursor"] = str(place_of(gateway.seals, _STATEMENT, cursor, 1)[0])
    entries, headers = await gateway.credits.read("/v1/statement", asked)
    following = headers.get(CURSOR_HEADER)
    return page(map(shown_entry, entries), cursor_of(gateway.seals, _STATEMENT, following) if following else None)


def shown_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "entry_id": entry["entry_id"],
        "kind": entry["kind"],
        "amount_mc": entry["amount_mc"],
        "balance_mc": entry["posted_after_mc"],
        "query_id": entry["hold_id"],  # a query and its hold have the same id
        "reason": entry["reason"],
        "created_at": entry["created_at"],
    }


@router.get("/v1/usage", response_model=list[DayOfUsage])
async def usage(caller: Reading, gateway: Running, days: Days = 30) -> Response:
    """Requests and credits of each of the last days in UTC, oldest first."""
    return page(await usage_by_day(gateway.postgres, caller.user_id, days))


@router.get("/v1/stats", response_model=OwnStats)
async def stats(caller: Reading, gateway: Running, days: Days = 30) -> Response:
    """Your own totals of the last days, by day and by endpoint. What was answered just now may still be on its way."""
    figures = await stats_of(gateway.postgres, caller.user_id, days)
    parts = {name: [public(row) for row in figures[name]] for name in ("daily_usage", "endpoints")}
    return one({**figures, **parts})
