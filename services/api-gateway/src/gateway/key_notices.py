"""What one gateway tells the others when a user or a key has changed, so that a revoked key dies at once everywhere.

A notice may be lost; then the change is noticed when the kept answer is too old (api_key_cache_s).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.logs import get_logger

if TYPE_CHECKING:
    from gateway.api_keys import ApiKeys

_log = get_logger(__name__)
_CHANNEL = "access-changed"
# A connection that died without a word is found out by its silence: every pause is ended by a ping.
_SILENCE_S = 10.0
_PONG_S = 5.0


class KeyNotices:
    def __init__(self, redis: Redis, api_keys: ApiKeys) -> None:
        self._redis = redis
        self._api_keys = api_keys

    async def changed(self, user_id: UUID) -> None:
        """Call after the change is committed. Never raises: without Redis the others learn of it by themselves."""
        self._api_keys.forget(user_id)
        try:
            await self._redis.publish(_CHANNEL, str(user_id))
        except (RedisError, OSError, TimeoutError) as exc:
            _log.warning("redis does not take a notice, other gateways notice within their TTL", fault=repr(exc))

    async def listen(self) -> None:
        """Raises when the connection breaks; whoever runs it begins again. What was missed is forgotten first."""
        async with self._redis.pubsub() as notices:
            await notices.subscribe(_CHANNEL)
            self._api_keys.forget_all()
            while True:
                self._take(await self._next(notices))

    async def _next(self, notices: Any) -> dict[str, Any]:
        message: dict[str, Any] | None = await notices.get_message(timeout=_SILENCE_S)
        if message is None:
            await notices.ping()
            message = await notices.get_message(timeout=_PONG_S)
        if message is None:
            raise TimeoutError
        return message

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] != "message":
            return
        try:
            self._api_keys.forget(UUID(message["data"].decode()))
        except ValueError:  # not ours; safe is to forget everything
            self._api_keys.forget_all()


async def listen_again(notices: KeyNotices, pause_s: float = 1.0) -> None:
    """Until cancelled. That Redis is away is said where it matters, so not once a second here."""
    while True:
        with suppress(RedisError, OSError, TimeoutError):
            await notices.listen()
        await asyncio.sleep(pause_s)
