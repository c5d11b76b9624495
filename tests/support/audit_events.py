"""Events as the gateway sends them, and the records they arrive in."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aiokafka import ConsumerRecord

from common.events import RequestFinished
from common.topics import AUDIT_REQUESTS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class StoppedClock:
    def __init__(self, now: datetime = NOW) -> None:
        self.time = now
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.seconds


def finished(**fields: Any) -> RequestFinished:
    """A plain query that cost one credit, unless said otherwise."""
    usual = {
        "occurred_at": NOW,
        "user_id": UUID(int=7),
        "username": "ada",
        "endpoint": "/v1/query",
        "method": "POST",
        "status": 200,
        "duration_ms": 12.5,
        "rows": 10,
        "credits_used_mc": 1000,
        "ip": "192.0.2.7",
        "dataset": "people",
    }
    return RequestFinished.model_validate(usual | fields)


def some_finished(count: int, seed: int) -> list[RequestFinished]:
    """A mix of users (and none), routes, outcomes and durations, over two days."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable mix
    return [
        finished(
            occurred_at=NOW.replace(day=chance.choice((20, 21)), hour=chance.randrange(24)),
            user_id=chance.choice((None, *(UUID(int=n) for n in range(1, 8)))),
            endpoint=chance.choice(("/v1/query", "/v1/me", "/v1/uploads")),
            status=chance.choice((200, 200, 402, 404, 499, 503)),
            duration_ms=chance.expovariate(1 / 20),
            rows=chance.randrange(1000),
            credits_used_mc=chance.randrange(5000),
        )
        for _ in range(count)
    ]


def records_of(values: Sequence[RequestFinished | bytes | None], *, partition: int = 0, first: int = 0) -> list[Any]:
    return [
        ConsumerRecord(
            topic=AUDIT_REQUESTS.name,
            partition=partition,
            offset=offset,
            timestamp=0,
            timestamp_type=0,
            key=b"key",
            value=value.encoded() if isinstance(value, RequestFinished) else value,
            checksum=None,
            serialized_key_size=3,
            serialized_value_size=0,
            headers=(),
        )
        for offset, value in enumerate(values, first)
    ]
