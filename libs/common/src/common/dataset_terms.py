"""The terms of a dataset: who may use it, and for how long it is kept."""

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Role: TypeAlias = Literal["super_admin", "admin", "viewer", "user"]
_DAYS = re.compile(r"(\d{1,5})d")
_DAYS_MAX = 36_500


class Allowed(BaseModel):
    """Roles and users, by name; whoever is one of them. An empty declaration allows nobody but the super admins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: tuple[Role, ...] = ()
    users: tuple[str, ...] = ()

    def has(self, role: str, username: str) -> bool:
        return role == "super_admin" or role in self.roles or username in self.users


class Access(BaseModel):
    """Who may query and who may load. A key needs the scope for it besides; absent means that the scope is enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: Allowed | None = None
    load: Allowed | None = None

    def may_query(self, role: str, username: str) -> bool:
        return self.query is None or self.query.has(role, username)

    def may_load(self, role: str, username: str) -> bool:
        return self.load is None or self.load.has(role, username)


def _days(value: object) -> object:
    """`30d`: a bare number would leave the unit to guessing."""
    found = _DAYS.fullmatch(value) if isinstance(value, str) else None
    if not found or not 1 <= int(found[1]) <= _DAYS_MAX:
        raise ValueError(f"expected days from 1d to {_DAYS_MAX}d, as in 30d")
    return int(found[1])


Days = Annotated[int, BeforeValidator(_days)]


class Retention(BaseModel):
    """How long things are kept, in days once read; None: until somebody deletes them.

    Rows count from their load (ingest_ts), objects from their arrival, quarantined rows from their rejection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Days | None = Field(None, description="of the history and the current table")
    objects: Days | None = Field(None, description="of the files in the bucket")
    quarantine: Days | None = Field(None, description="of rejected rows")
