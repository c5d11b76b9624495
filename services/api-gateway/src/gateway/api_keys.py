"""API keys: who is calling, with which scopes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request


@dataclass(frozen=True, slots=True)
class Caller:
    user_id: UUID
    username: str
    role: str
    key_id: UUID
    scopes: frozenset[str]
    plan: str


class ApiKeys:
    """Filled in next."""


def caller_with(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: authenticates, admits by the caller's plan, checks the scope, notes the caller in the trail."""

    async def admitted(request: Request) -> Caller:
        raise NotImplementedError(scope, request)

    return admitted
