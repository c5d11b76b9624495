"""/v1/keys: what callers do with their own keys. A key only deals with keys that may do no more than it may itself."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from common.errors import InvalidRequest
from common.json_body import json_body
from gateway.answers import one, page
from gateway.api_keys import Caller, caller_with
from gateway.audit_trail import trail_of
from gateway.roles import Scopes, require_covers, require_grantable, scopes_of
from gateway.user_keys import Wanted, add_key, key_of, keys_of, revoke_key, rotate_key
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/keys", tags=["account"])
Reading = Annotated[Caller, Depends(caller_with("read"))]
Running = Annotated[Gateway, Depends(gateway_of)]
KeyName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$", description="what the key is for")
]


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a time like 2030-01-01T00:00:00Z")  # noqa: TRY004 - pydantic turns only ValueError into a fault
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_text, json_schema_input_type=AwareDatetime), Strict(strict=False)]


class Key(BaseModel):
    id: UUID
    name: str
    prefix: str = Field(description="how the key begins: all that is ever shown of it again")
    scopes: list[str]
    requests_per_minute: int | None = Field(description="the key's own limit, beside the plan's")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None = Field(description="when it died, or, in a grace period, when it will")
    last_used_at: datetime | None


class NewKey(Key):
    api_key: str = Field(description="shown only this once")


class RotatedKey(NewKey):
    replaced: Key


class CreateKey(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: KeyName
    scopes: Scopes | None = Field(None, description="those of this key if absent")
    expires_at: Moment | None = None
    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000)


class RotateKey(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    grace_seconds: int = Field(0, ge=0, description="how long the old key still works")


@router.get("", response_model=list[Key])
async def get_keys(caller: Reading, gateway: Running) -> Response:
    """Your keys, oldest first, dead ones included."""
    return page(shown(key, caller.role) for key in await keys_of(gateway.postgres, caller.user_id))


@router.post("", response_model=NewKey)
async def create_key(
    request: Request, caller: Reading, gateway: Running, ask: Annotated[CreateKey, json_body(CreateKey)]
) -> Response:
    """A further key for yourself, with this key's scopes or fewer."""
    trail_of(request).action = "create-key"
    scopes = caller.scopes if ask.scopes is None else ask.scopes
    require_grantable(caller.role, scopes)
    require_covers(caller, scopes)
    if ask.expires_at is not None and ask.expires_at <= gateway.clock.now():
        raise InvalidRequest(details=[{"path": "expires_at", "error": "must be in the future"}])
    wanted = Wanted(ask.name, scopes, ask.requests_per_minute, ask.expires_at)
    keys_max = gateway.settings.keys_per_user_max
    row, key = await add_key(gateway.postgres, caller.user_id, wanted, keys_max=keys_max)
    trail_of(request).target = str(row["id"])
    return one({**shown(row, caller.role), "api_key": key.secret})


@router.post("/{key_id}/rotate", response_model=RotatedKey)
async def rotate(
    request: Request,
    caller: Reading,
    gateway: Running,
    key_id: UUID,
    ask: Annotated[RotateKey, json_body(RotateKey, optional=True)],
) -> Response:
    """A new key in the place of this one, which works on for the grace period."""
    trail = trail_of(request)
    trail.action, trail.target = "rotate-key", str(key_id)
    require_grace(ask.grace_seconds, gateway)
    old = await _key_within_reach(key_id, caller, gateway)
    row, key, ended = await rotate_key(gateway.postgres, old, caller.user_id, grace_s=ask.grace_seconds)
    await gateway.key_notices.changed(caller.user_id)
    return one({**shown(row, caller.role), "api_key": key.secret, "replaced": shown(ended, caller.role)})


@router.delete("/{key_id}", response_model=Key)
async def delete_key(request: Request, caller: Reading, gateway: Running, key_id: UUID) -> Response:
    """Revoke a key: it is refused at once, within api_key_cache_s in the worst case."""
    trail = trail_of(request)
    trail.action, trail.target = "revoke-key", str(key_id)
    key = await _key_within_reach(key_id, caller, gateway)
    ended = await revoke_key(gateway.postgres, key["id"])
    await gateway.key_notices.changed(caller.user_id)
    return one(shown(ended, caller.role))


def require_grace(grace_s: int, gateway: Gateway) -> None:
    if grace_s > gateway.settings.key_grace_max_s:
        most = gateway.settings.key_grace_max_s
        raise InvalidRequest(details=[{"path": "grace_seconds", "error": f"at most {most} seconds"}])


async def _key_within_reach(key_id: UUID, caller: Caller, gateway: Gateway) -> asyncpg.Record:
    key = await key_of(gateway.postgres, key_id, caller.user_id)
    require_covers(caller, scopes_of(caller.role, key["scopes"]))
    return key


def shown(key: asyncpg.Record, role: str) -> dict[str, Any]:
    """A key as its user sees it: the scopes that it has in effect."""
    fields = {name: key[name] for name in Key.model_fields}
    return {**fields, "scopes": sorted(scopes_of(role, key["scopes"]))}
