"""Who may do what: every rule about roles and scopes is here."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import Field

from common.datasets import Dataset, Datasets
from common.errors import Forbidden

Role: TypeAlias = Literal["super_admin", "admin", "viewer", "user"]
Scope: TypeAlias = Literal["query", "read", "ingest", "pii", "admin"]
SCOPES: frozenset[str] = frozenset(get_args(Scope))
Scopes: TypeAlias = Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))]
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
    datasets: frozenset[str] = frozenset()  # granted to this user beside those of the role
    requests_per_minute: int | None = None  # of this key, beside the plan's


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


def require_grantable(role: str, scopes: Iterable[str]) -> None:
    """A key of this role may be given these. Raises Forbidden naming the first that it may not."""
    for scope in sorted(scopes):
        if scope not in _GRANTABLE.get(role, frozenset()):
            raise Forbidden(f"A key of the role {role} cannot have the scope {scope}", details={"scope": scope})


def require_covers(caller: Caller, scopes: Iterable[str]) -> None:
    """Nobody makes, renews or revokes a key that may do more than the key they do it with."""
    for scope in sorted(scopes):
        require_scope(caller, scope)


def datasets_of(caller: Caller, datasets: Datasets) -> Datasets:
    """Those that the caller may query; the others do not exist for them."""
    return Datasets({name: dataset for name, dataset in datasets.items() if may_query(caller, dataset)})


def may_query(caller: Caller, dataset: Dataset) -> bool:
    """As the declaration says, or by a grant to this very user."""
    return dataset.name in caller.datasets or dataset.access.may_query(caller.role, caller.username)


def may_load(caller: Caller, dataset: Dataset) -> bool:
    """The same for loading into it, which needs the scope `ingest` besides."""
    return dataset.name in caller.datasets or dataset.access.may_load(caller.role, caller.username)


def require_may_load(caller: Caller, dataset: Dataset) -> None:
    if not may_load(caller, dataset):
        raise Forbidden(f"You may not load into {dataset.name}", details={"dataset": dataset.name})


def require_may_create(caller: Caller, role: str) -> None:
    """Only a super admin makes another one."""
    require_may_act(caller, caller.role, role)


def require_may_act(caller: Caller, caller_role: str, *roles: str) -> None:
    """An admin cannot touch a super admin, nor make one. `caller_role`: as it is now, not as a key remembers it."""
    require_role(replace(caller, role=caller_role), ADMINS)
    if "super_admin" in roles and caller_role != "super_admin":
        raise Forbidden("Only a super admin may do this to a super admin", details={"role": caller_role})


def require_another(caller: Caller, user_id: UUID) -> None:
    """Nobody changes their own role, or locks themselves out."""
    if caller.user_id == user_id:
        raise Forbidden("Nobody may do this to themselves", details={"user_id": str(user_id)})


def require_one_left(super_admins: Collection[UUID], removed: UUID) -> None:
    """`super_admins`: the active ones, locked. Without one nobody could make another."""
    if not set(super_admins) - {removed}:
        raise Forbidden("The last super admin cannot be removed", details={"user_id": str(removed)})
