"""The admin side of one user. Each route says what is done to whom, in the trail, before anything can refuse it."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.credit_operations import SetBalance
from common.errors import NotFound
from common.json_body import json_body
from common.prices import credits as as_credits
from gateway.admin import checked_key
from gateway.answers import encoded, one
from gateway.api_keys import Caller, caller_with
from gateway.audit_trail import changed, trail_of
from gateway.keys import require_grace
from gateway.roles import ADMIN_READERS, ADMINS, Role, Scopes, require_another
from gateway.user_changes import (
    change_role,
    change_status,
    changing,
    datasets_granted,
    delete_user,
    grant_dataset,
    regenerate_key,
    revoke_dataset,
)
from gateway.user_keys import key_of
from gateway.users import Credits, require_user
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/admin", tags=["admin"])
Reader = Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]
Admin = Annotated[Caller, Depends(caller_with("admin", roles=ADMINS))]
Running = Annotated[Gateway, Depends(gateway_of)]


class _Ask(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RegenerateKey(_Ask):
    grace_seconds: int = Field(0, ge=0, description="how long the old keys still work")
    scopes: Scopes | None = Field(None, description="those of the role if absent")


class RegeneratedKey(BaseModel):
    message: str
    user_id: UUID
    api_key: str = Field(description="shown only this once")


@router.post("/user/{user_id}/regenerate-key", response_model=RegeneratedKey)
async def post_regenerate_key(
    request: Request,
    caller: Admin,
    gateway: Running,
    user_id: UUID,
    ask: Annotated[RegenerateKey, json_body(RegenerateKey, optional=True, form=True)],
) -> Response:
    """A new key in the place of all of a user's keys, which die at once or after grace_seconds."""
    _note(request, "regenerate-key", user_id)
    require_grace(ask.grace_seconds, gateway)
    async with changing(gateway.postgres, caller, user_id) as change:
        trail_of(request).details = {"grace_seconds": ask.grace_seconds}
        key = await regenerate_key(change, scopes=ask.scopes, grace_s=ask.grace_seconds)
    await gateway.key_notices.changed(user_id)
    return one({"message": "New key made", "user_id": user_id, "api_key": key.secret})


class ChangeRole(_Ask):
    role: Role


class ChangedRole(BaseModel):
    message: str
    user_id: UUID
    role: Role


@router.post("/user/{user_id}/change-role", response_model=ChangedRole)
async def post_change_role(
    request: Request,
    caller: Admin,
    gateway: Running,
    user_id: UUID,
    ask: Annotated[ChangeRole, json_body(ChangeRole, form=True)],
) -> Response:
    _note(request, "change-role", user_id)
    require_another(caller, user_id)
    async with changing(gateway.postgres, caller, user_id, to_role=ask.role) as change:
        trail_of(request).details = {"role": changed(change.user["role"], ask.role)}
        await change_role(change, ask.role)
    await gateway.key_notices.changed(user_id)
    return one({"message": "Role changed", "user_id": user_id, "role": ask.role})


Status = Literal["active", "disabled"]


class ChangeStatus(_Ask):
    status: Status


class ChangedStatus(BaseModel):
    message: str
    user_id: UUID
    status: Status


@router.post("/user/{user_id}/status", response_model=ChangedStatus)
async def post_status(
    request: Request,
    caller: Admin,
    gateway: Running,
    user_id: UUID,
    ask: Annotated[ChangeStatus, json_body(ChangeStatus, form=True)],
) -> Response:
    """A disabled user's keys are refused as if they did not exist; active again, they work again."""
    _note(request, "change-status", user_id)
    return await _set_status(request, caller, gateway, user_id, ask.status)


class Nothing(_Ask):
    """This route takes no fields."""


@router.post("/user/{user_id}/disable", response_model=ChangedStatus)
async def post_disable(
    request: Request,
    caller: Admin,
    gateway: Running,
    user_id: UUID,
    _: Annotated[Nothing, json_body(Nothing, optional=True, form=True)],
) -> Response:
    _note(request, "disable", user_id)
    return await _set_status(request, caller, gateway, user_id, "disabled")


async def _set_status(request: Request, caller: Caller, gateway: Gateway, user_id: UUID, status: Status) -> Response:
    require_another(caller, user_id)
    async with changing(gateway.postgres, caller, user_id) as change:
        trail_of(request).details = {"status": changed(change.user["status"], status)}
        await change_status(change, status)
    await gateway.key_notices.changed(user_id)
    return one({"message": f"User {status}", "user_id": user_id, "status": status})


class UpdateCredits(_Ask):
    credits: Credits
    reason: str = Field("set by an admin", max_length=500)


class UpdatedCredits(BaseModel):
    message: str
    user_id: UUID
    credits: float
    balance: float


# What it was a moment before, for the log; which amount the entry has, the ledger decides.
_BALANCE = "SELECT posted FROM credits.balances WHERE user_id = $1"


@router.post("/user/{user_id}/update-credits", response_model=UpdatedCredits)
async def post_update_credits(
    *,
    request: Request,
    caller: Admin,
    gateway: Running,
    user_id: UUID,
    ask: Annotated[UpdateCredits, json_body(UpdateCredits, form=True)],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Set the balance; the ledger gets an adjustment entry. Not below what running queries hold."""
    _note(request, "update-credits", user_id)
    key = checked_key(idempotency_key) if idempotency_key is not None else str(request.state.request_id)
    # The rules only: the ledger is the credits service's, and its own key makes a repeat harmless.
    async with changing(gateway.postgres, caller, user_id) as change:
        before_mc = await change.connection.fetchval(_BALANCE, user_id) or 0
    outcome = await gateway.credits.administer(
        SetBalance(
            user_id=user_id,
            amount_mc=ask.credits,
            actor=str(caller.user_id),
            reason=ask.reason,
            key=f"update-credits:{key}",
        )
    )
    trail_of(request).details = {
        "balance": changed(as_credits(before_mc), as_credits(ask.credits)),
        "reason": ask.reason,
    }
    answer = {"message": "Credits set", "user_id": user_id, "credits_mc": ask.credits}
    return one({**answer, "balance_mc": outcome.posted_mc})


class Deleted(BaseModel):
    message: str
    user_id: UUID


@router.delete("/user/{user_id}", response_model=Deleted)
async def delete(request: Request, caller: Admin, gateway: Running, user_id: UUID) -> Response:
    """Disable for good and forget who it was. Ledger and log stay, under the id."""
    _note(request, "delete-user", user_id)
    require_another(caller, user_id)
    async with changing(gateway.postgres, caller, user_id) as change:
        await delete_user(change)
    await gateway.key_notices.changed(user_id)
    return one({"message": "User deleted", "user_id": user_id})


@router.get("/user/{user_id}/datasets", response_model=list[str])
async def get_datasets(_: Reader, gateway: Running, user_id: UUID) -> Response:
    """Datasets granted to this user beside those that the role sees."""
    await require_user(gateway.postgres, user_id)
    return await _granted(gateway, user_id)


@router.put("/user/{user_id}/datasets/{dataset}", response_model=list[str])
async def put_dataset(request: Request, caller: Admin, gateway: Running, user_id: UUID, dataset: str) -> Response:
    _note(request, "grant-dataset", user_id)
    trail_of(request).dataset = dataset
    if dataset not in gateway.datasets:
        raise NotFound
    async with changing(gateway.postgres, caller, user_id) as change:
        await grant_dataset(change, dataset, caller.user_id)
    await gateway.key_notices.changed(user_id)
    return await _granted(gateway, user_id)


@router.delete("/user/{user_id}/datasets/{dataset}", response_model=list[str])
async def delete_dataset(request: Request, caller: Admin, gateway: Running, user_id: UUID, dataset: str) -> Response:
    _note(request, "revoke-dataset", user_id)
    trail_of(request).dataset = dataset
    if dataset not in gateway.datasets:
        raise NotFound
    async with changing(gateway.postgres, caller, user_id) as change:
        await revoke_dataset(change, dataset)
    await gateway.key_notices.changed(user_id)
    return await _granted(gateway, user_id)


async def _granted(gateway: Gateway, user_id: UUID) -> Response:
    return Response(encoded(await datasets_granted(gateway.postgres, user_id)), media_type="application/json")


class VerifiedKey(BaseModel):
    valid: Literal[True]
    role: Role
    id: UUID
    username: str


@router.post("/verify-key", response_model=VerifiedKey)
async def verify_key(request: Request, caller: Admin) -> Response:
    """Whose key is in the header. One that is not valid is answered 401 like everywhere, and counts as a guess."""
    trail_of(request).action = "verify-key"
    return one({"valid": True, "role": caller.role, "id": caller.user_id, "username": caller.username})


class MaskedKey(BaseModel):
    id: UUID
    name: str
    api_key: str = Field(description="its beginning; the rest is known to nobody")
    scopes: list[str]
    expires_at: datetime | None


@router.get("/api-key", response_model=MaskedKey)
async def get_api_key(caller: Reader, gateway: Running) -> Response:
    """The key in the header, masked."""
    key = await key_of(gateway.postgres, caller.key_id, caller.user_id)
    shown = {"id": key["id"], "name": key["name"], "api_key": f"{key['prefix']}…"}
    return one({**shown, "scopes": sorted(caller.scopes), "expires_at": key["expires_at"]})


def _note(request: Request, action: str, user_id: UUID) -> None:
    trail = trail_of(request)
    trail.action, trail.target = action, str(user_id)
