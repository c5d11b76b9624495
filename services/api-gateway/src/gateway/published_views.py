"""Reading what other services publish: their outage, or not being there yet, is 503 and never a fault of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from common.errors import Unavailable
from common.postgres import outage_is_unavailable


@asynccontextmanager
async def published(what: str) -> AsyncIterator[None]:
    """Raises Unavailable also while the owner has not applied the migration that makes its view."""
    async with outage_is_unavailable(what):
        try:
            yield
        except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError) as exc:
            raise Unavailable(f"{what} is not available, try again shortly") from exc
