"""Users: how they come to be. Balances are the credits service's, so creating a user is a small saga."""

import asyncio
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from common.credit_operations import Grant, OpenAccount
from common.errors import InvalidRequest, NotFound, UsernameTaken
from common.faultpoints import faultpoint
from common.ids import new_id
from common.logs import get_logger
from common.postgres import Pool, outage_is_unavailable
from common.prices import number_to_millicredits
from gateway.api_keys import NewKey, new_key
from gateway.credits_client import CreditsClient
from gateway.roles import Role, Scopes, require_grantable
from gateway.settings import Settings

_log = get_logger(__name__)
_OPEN_RETRY_S = 1.0
BOOTSTRAP_KEY = "bootstrap"
Username = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}$", description="unique, whatever its case")
]


Credits = Annotated[
    int,
    BeforeValidator(number_to_millicredits, json_schema_input_type=float),
    Field(description="credits with at most three decimals"),
]


class CreateUser(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    username: Username
    role: Role = "user"
    credits: Credits = 100_000
    plan: str = Field("standard", max_length=40)
    scopes: Scopes | None = Field(None, description="of the first key; those of the role if absent")


class User(BaseModel):
    id: UUID
    username: str
    role: str
    status: str
    plan: str
    credits: float
    created_at: datetime
    last_used_at: datetime | None = None


# A name whose creation broke off is taken up again; one that is finished answers no row.
_CLAIM = """
    INSERT INTO gateway.users AS u (id, username, role, plan, credits_mc) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (lower(username)) DO UPDATE SET status = u.status WHERE u.activated_at IS NULL
 RETURNING id, username, role, plan, credits_mc, created_at
"""

# Both or neither: of two who finish the same user, one gets a key that works and the other a 409.
_ACTIVATE = """
    WITH activated AS (
        UPDATE gateway.users SET status = 'active', activated_at = now()
         WHERE id = $1 AND activated_at IS NULL RETURNING id)
    INSERT INTO gateway.api_keys (id, user_id, name, prefix, key_sha256, scopes)
    SELECT $2, id, 'first', $3, $4, $5 FROM activated RETURNING id
"""


async def create_user(postgres: Pool, credits_client: CreditsClient, ask: CreateUser) -> tuple[dict[str, Any], NewKey]:
    """Disabled user, account, first credits, active: repeatable after a crash at any step. Raises UsernameTaken."""
    require_grantable(ask.role, ask.scopes or ())
    async with outage_is_unavailable("The user store"):
        claimed = await postgres.fetchrow(_CLAIM, new_id(), ask.username, ask.role, ask.plan, ask.credits)
    if claimed is None or (claimed["role"], claimed["plan"], claimed["credits_mc"]) != (
        ask.role,
        ask.plan,
        ask.credits,
    ):
        raise UsernameTaken(details={"username": ask.username})
    user_id = claimed["id"]
    faultpoint("gateway.user_claimed")
    await credits_client.administer(OpenAccount(user_id=user_id))
    faultpoint("gateway.user_opened")
    if ask.credits and not await _posted(postgres, user_id):
        # The key makes a repeat within a day harmless, the look at the balance one after that.
        await credits_client.administer(
            Grant(user_id=user_id, amount_mc=ask.credits, actor="create-user", key=f"create-user:{user_id}")
        )
    faultpoint("gateway.user_granted")
    key = new_key()
    async with outage_is_unavailable("The user store"):
        if not await postgres.fetchval(_ACTIVATE, user_id, new_id(), key.prefix, key.sha256, ask.scopes):
            raise UsernameTaken(details={"username": ask.username})
    faultpoint("gateway.user_activated")
    return {**claimed, "status": "active", "last_used_at": None}, key


async def _posted(postgres: Pool, user_id: UUID) -> int:
    async with outage_is_unavailable("The user store"):
        return await postgres.fetchval("SELECT posted FROM credits.balances WHERE user_id = $1", user_id) or 0


async def require_user(postgres: Pool, user_id: UUID) -> asyncpg.Record:
    """Its username, role and status, or NotFound."""
    async with outage_is_unavailable("The user store"):
        row = await postgres.fetchrow("SELECT username, role, status FROM gateway.users WHERE id = $1", user_id)
    if row is None:
        raise NotFound
    return row


def require_plan(plan: str, settings: Settings) -> None:
    if plan not in settings.plans:
        raise InvalidRequest(
            details=[{"path": "plan", "error": f"this installation has the plans {', '.join(settings.plans)}"}]
        )


_FIRST_ADMIN = """
    INSERT INTO gateway.users (id, username, role, status, plan, credits_mc, activated_at)
    VALUES ($1, $2, 'super_admin', 'active', 'unlimited', 0, now())
        ON CONFLICT (lower(username)) DO NOTHING
"""
_FIRST_ADMINS_KEY = """
    WITH admin AS (SELECT id FROM gateway.users WHERE lower(username) = lower($1) AND role = 'super_admin'),
         replaced AS (
        UPDATE gateway.api_keys SET revoked_at = now()
         WHERE user_id IN (SELECT id FROM admin) AND name = $4 AND key_sha256 <> $3 AND revoked_at IS NULL),
         added AS (
        INSERT INTO gateway.api_keys (id, user_id, name, prefix, key_sha256)
        SELECT $2, id, $4, 'ADMIN_API_KEY', $3 FROM admin ON CONFLICT (key_sha256) DO NOTHING)
    SELECT id FROM admin
"""


async def ensure_first_admin(postgres: Pool, settings: Settings) -> UUID | None:
    """The super admin of ADMIN_API_KEY. Safe to repeat and from several gateways; a new key replaces the old."""
    if settings.admin_api_key is None:
        return None
    await postgres.execute(_FIRST_ADMIN, new_id(), settings.admin_username)
    admin_id: UUID | None = await postgres.fetchval(
        _FIRST_ADMINS_KEY, settings.admin_username, new_id(), settings.admin_api_key, BOOTSTRAP_KEY
    )
    if admin_id is None:
        _log.error(
            "ADMIN_API_KEY has no effect: this user exists and is no super admin", username=settings.admin_username
        )
    return admin_id


async def open_account_of(user_id: UUID, credits_client: CreditsClient) -> None:
    """Until it is done: the gateway starts without waiting for credits."""
    while True:
        try:
            await credits_client.administer(OpenAccount(user_id=user_id))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it passes or an operator sees it
            _log.warning("the first admin has no account yet, trying again", fault=str(exc))
            await asyncio.sleep(_OPEN_RETRY_S)
            continue
        return
