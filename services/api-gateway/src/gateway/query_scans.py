"""How many scans of one user run at once: the others of the same user wait, so that a neighbour's lookup does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from common.errors import RateLimited


class Scans:
    """Per gateway process. Key lookups are not counted; a stream counts until its last byte."""

    def __init__(self, at_once: int, wait_s: float) -> None:
        self._at_once = at_once
        self._wait_s = wait_s
        self._places: dict[UUID, asyncio.Semaphore] = {}
        self._users: dict[UUID, int] = {}

    async def enter(self, user_id: UUID) -> Callable[[], None]:
        """Waits for its turn, in order. Raises RateLimited when it does not come in time. Call the result once."""
        places = self._places.setdefault(user_id, asyncio.Semaphore(self._at_once))
        self._users[user_id] = self._users.get(user_id, 0) + 1
        try:
            async with asyncio.timeout(self._wait_s):
                await places.acquire()
        except TimeoutError:
            self._forget(user_id)
            raise RateLimited(
                "Too many scans at once", details={"scans_at_once": self._at_once}, retry_after_s=1
            ) from None
        except BaseException:
            self._forget(user_id)
            raise

        def leave() -> None:
            places.release()
            self._forget(user_id)

        return leave

    def _forget(self, user_id: UUID) -> None:
        self._users[user_id] -= 1
        if not self._users[user_id]:
            del self._users[user_id], self._places[user_id]
