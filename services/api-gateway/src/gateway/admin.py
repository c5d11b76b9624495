"""The admin side: users, credits, the log, statistics. Every action says in the trail what was done and to whom."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.credit_operations import Grant
from common.errors import BadHeader
from common.json_body import json_body
from common.prices import credits as as_credits
from gateway.answers import Cursor, Limit, Text, one, page, public
from gateway.api_keys import Caller, caller_with
from gateway.audit_trail import changed, trail_of
from gateway.roles import ADMIN_READERS, ADMINS, Role, require_may_create
from gateway.stats import dashboard
from gateway.usage import DayOfUsage, usage_by_day
from gateway.user_changes import changing
from gateway.user_list import Sort, list_users, user_in_full
from gateway.users import CreateUser, Credits, User, create_user, require_plan, require_user
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
Reader = Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]
Admin = Annotated[Caller, Depends(caller_with("admin", roles=ADMINS))]
Running = Annotated[Gateway, Depends(gateway_of)]
_KEY_LENGTH_MAX = 200


class CreatedUser(BaseModel):
    user: User
    api_key: str = Field(description="shown only this once")


@router.post("/create-user", response_model=CreatedUser)
async def create(
    request: Request, caller: Admin, gateway: Running, ask: Annotated[CreateUser, json_body(CreateUser)]
) -> Response:
    """Create a user with first credits and an API key. Repeating a creation that broke off continues it."""
    trail = trail_of(request)
    trail.action, trail.target = "create-user", ask.username
    trail.details = {"role": ask.role, "plan": ask.plan, "credits": as_credits(ask.credits)}
    require_may_create(caller, ask.role)
    require_plan(ask.plan, gateway.settings)
    user, key = await create_user(gateway.postgres, gateway.credits, ask)
    trail.target = str(user["id"])
    await gateway.key_notices.changed(user["id"])
    return one({"user": public(user), "api_key": key.secret})


class AddCredits(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: UUID
    credits: Annotated[Credits, Field(gt=0)]
    reason: str = Field("", max_length=500)


class AddedCredits(BaseModel):
    message: str
    user_id: UUID
    credits: float
    balance: float


@router.post("/add-credits", response_model=AddedCredits)
async def add_credits(
    request: Request,
    caller: Admin,
    gateway: Running,
    ask: Annotated[AddCredits, json_body(AddCredits)],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Grant credits. With an Idempotency-Key a repeat within a day grants nothing more and answers the same."""
    trail = trail_of(request)
    trail.action, trail.target = "add-credits", str(ask.user_id)
    key = checked_key(idempotency_key) if idempotency_key is not None else str(request.state.request_id)
    async with changing(gateway.postgres, caller, ask.user_id):
        pass  # the rules only: the ledger is the credits service's, and its own key makes a repeat harmless
    granted = await gateway.credits.administer(
        Grant(
            user_id=ask.user_id,
            amount_mc=ask.credits,
            actor=str(caller.user_id),
            reason=ask.reason,
            key=f"add-credits:{key}",
        )
    )
    balance = granted.posted_mc or 0
    trail.details = {
        "credits": as_credits(ask.credits),
        "balance": changed(as_credits(balance - ask.credits), as_credits(balance)),
        "reason": ask.reason,
    }
    answer = {"message": "Credits added", "user_id": ask.user_id, "credits_mc": ask.credits}
    return one({**answer, "balance_mc": granted.posted_mc})


def checked_key(key: str) -> str:
    """An Idempotency-Key as it may be stored: 1 to 200 visible ASCII characters. Raises BadHeader."""
    if not 1 <= len(key) <= _KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        raise BadHeader(f"Idempotency-Key must be 1 to {_KEY_LENGTH_MAX} visible ASCII characters")
    return key


class ListedUser(BaseModel):
    id: UUID
    username: str
    credits: float
    role: str
    status: str
    plan: str
    created_at: datetime
    last_used_at: datetime | None


@router.get("/users", response_model=list[ListedUser])
async def users(
    *,
    _: Reader,
    gateway: Running,
    search: Text | None = None,
    role: Role | None = None,
    status: Literal["active", "disabled"] | None = None,
    sort: Annotated[str, Query(pattern=r"^(created_at|username|credits|last_used_at)( (ASC|DESC|asc|desc))?$")] = (
        "created_at DESC"
    ),
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Users with their balances. `sort` is a field and ASC or DESC; `search` looks for a part of the name."""
    by, _blank, direction = sort.partition(" ")
    rows, following = await list_users(
        gateway.postgres,
        search=search,
        role=role,
        status=status,
        sort=_sort(by),
        descending=direction.upper() == "DESC",
        limit=limit,
        cursor=cursor,
        seals=gateway.seals,
    )
    fields = ListedUser.model_fields
    shown = [{name: value for name, value in row.items() if name.removesuffix("_mc") in fields} for row in rows]
    return page(shown, following)


def _sort(by: str) -> Sort:
    known: dict[str, Sort] = {
        "created_at": "created_at",
        "username": "username",
        "credits": "credits",
        "last_used_at": "last_used_at",
    }
    return known[by]


class KeyPrefix(BaseModel):
    id: UUID
    name: str
    prefix: str
    scopes: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class UserInFull(ListedUser):
    held: float
    today_requests: int
    total_requests: int
    credits_used: float
    keys: list[KeyPrefix]


@router.get("/user/{user_id}", response_model=UserInFull)
async def user(_: Reader, gateway: Running, user_id: UUID) -> Response:
    return one(await user_in_full(gateway.postgres, user_id))


@router.get("/user/{user_id}/usage", response_model=list[DayOfUsage])
async def user_usage(
    _: Reader, gateway: Running, user_id: UUID, days: Annotated[int, Query(ge=1, le=366)] = 30
) -> Response:
    await require_user(gateway.postgres, user_id)
    return page(await usage_by_day(gateway.postgres, user_id, days))


class Day(BaseModel):
    date: str
    requests: int
    credits_used: float
    new_users: int


class Stats(BaseModel):
    total_users: int
    new_users_today: int
    low_credit_users: int = Field(description="active users with less than 10 credits available")
    total_requests: int
    today_requests: int
    credits_used: float = Field(description="in the last 30 days")
    credits_used_all_time: float
    error_rate: float = Field(description="share of today's requests")
    p50_ms: float | None
    p95_ms: float | None
    records_total: int | None
    ingested_today: int
    daily_usage: list[Day]


@router.get("/stats", response_model=Stats)
async def stats(_: Reader, gateway: Running) -> Response:
    """Figures of today and of the last 30 days, in UTC."""
    figures = await dashboard(gateway.postgres, gateway.record_counts)
    return one({**figures, "daily_usage": [public(day) for day in figures["daily_usage"]]})
