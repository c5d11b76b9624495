"""Who may do what: every rule about roles and scopes is here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from common.errors import Forbidden

Role: TypeAlias = Literal["super_admin", "admin", "viewer", "user"]
Scope: TypeAlias = Literal["query", "read", "ingest", "pii", "admin"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
# The admin side: who may look, and who may change something.
ADMIN_READERS: frozenset[str] = frozenset({"super_admin", "admin", "viewer"})
ADMINS: frozenset[str] = frozenset({"super_admin", "admin"})

# A key without scopes of its own has those of its user's role; one with has what both allow.
_SCOPES_OF: Mapping[str, frozenset[str]] = {
    "super_admin": SCOPES,
    "admin": SCOPES,
    "viewer": frozenset({"read"}),
    "user": frozenset({"query", "read"}),
}
# What an admin may hand out to a key of another role beyond its defaults.
_GRANTABLE: Mapping[str, frozenset[str]] = {**_SCOPES_OF, "user": frozenset({"query", "read", "ingest", "pii"})}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is, as the key says."""

    user_id: UUID
    username: str
    role: str
    key_id: UUID
    scopes: frozenset[str]
    plan: str


def scopes_of(role: str, granted: list[str] | None) -> frozenset[str]:
    if granted is None:
        return _SCOPES_OF.get(role, frozenset())
    return frozenset(granted) & _GRANTABLE.get(role, frozenset())


def require_scope(caller: Caller, scope: str) -> None:
    if scope not in caller.scopes:
        raise Forbidden(f"This key does not have the scope {scope}", details={"scope": scope})


def require_role(caller: Caller, roles: frozenset[str]) -> None:
    if caller.role not in roles:
        raise Forbidden("Your role does not allow this", details={"role": caller.role, "needed": sorted(roles)})


def require_may_create(caller: Caller, role: str) -> None:
    """Only a super admin makes another one."""
    if role == "super_admin" and caller.role != "super_admin":
        raise Forbidden("Only a super admin may do this to a super admin", details={"role": caller.role})


def require_may_change(caller: Caller, user_id: UUID, role: str) -> None:
    """Nobody changes themselves on the admin side, and an admin cannot touch a super admin."""
    require_may_create(caller, role)
    if caller.user_id == user_id:
        raise Forbidden("Nobody may do this to themselves", details={"user_id": str(user_id)})
