"""For brokers that answer an empty fetch at once instead of waiting for data, as the local stack's does.

Against one of those every idle consumer asks a thousand times a second, and three of them keep a core busy. Apache
Kafka waits by itself: there `kafka_idle_pause_s` stays 0 and nothing here runs.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, ClassVar

from aiokafka.consumer import consumer
from aiokafka.consumer.fetcher import Fetcher


class PacedFetcher(Fetcher):  # type: ignore[misc]  # aiokafka publishes no types
    """Pauses after a fetch that brought nothing sooner than the pause. A record waits at most that much longer."""

    idle_pause_s: ClassVar[float] = 0

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        asked = time.monotonic()
        brought: bool = await super()._proc_fetch_request(assignment, node_id, request)
        if not brought and time.monotonic() - asked < self.idle_pause_s:
            with suppress(asyncio.CancelledError):  # the assignment changed: the caller expects an answer, not this
                await asyncio.sleep(self.idle_pause_s)
        return brought


def pace_idle_fetches(pause_s: float) -> None:
    """From now on every consumer of this process pauses. aiokafka has no option for it, so its fetcher is replaced."""
    PacedFetcher.idle_pause_s = pause_s
    consumer.Fetcher = PacedFetcher
