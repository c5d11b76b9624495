"""Parts of a gateway for tests without servers."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from common.credit_operations import Outcome
from common.errors import Unavailable
from gateway.roles import Caller, scopes_of
from gateway.settings import Settings
from gateway.spool import Captured, Released


def gateway_settings(folder: Path, **changed: Any) -> Settings:
    nowhere = {
        "postgres_url": "postgresql://gateway@127.0.0.1:1/bigdata",
        "clickhouse_user": "gateway",
        "clickhouse_password": "none",
        "redis_url": "redis://127.0.0.1:1/0",
        "kafka_brokers": "127.0.0.1:1",
        "bucket_url": (folder / "bucket").as_uri(),
        "credits_url": "http://127.0.0.1:1",
        "credits_tokens": "first,second",
        "signing_keys": "signs-and-opens-every-seal,opens-the-seals-of-before",
        "spool_folder": folder / "spool",
    }
    return Settings.model_validate(nowhere | changed)


def caller(role: str = "user", plan: str = "standard", user_id: UUID | None = None) -> Caller:
    return Caller(
        user_id=user_id or UUID(int=7),
        username="ada",
        role=role,
        key_id=UUID(int=70),
        scopes=scopes_of(role, None),
        plan=plan,
    )


class ListSpool:
    """Keeps what a request leaves behind."""

    def __init__(self) -> None:
        self.records: list[tuple[dict[str, Any], Captured | Released | None, UUID | None]] = []

    def append(self, event: bytes, settlement: Captured | Released | None, user_id: UUID | None) -> bool:
        self.records.append((orjson.loads(event), settlement, user_id))
        return True


class FakeCredits:
    """Settles what the spool sends. `down` refuses everything; `answers` says what a hold is answered."""

    def __init__(self) -> None:
        self.down = False
        self.seen: Counter[str] = Counter()
        self.answers: dict[str, Outcome | Exception] = {}

    async def settle(self, operation: bytes) -> Outcome:
        if self.down:
            raise Unavailable
        hold_id = orjson.loads(operation)["hold_id"]
        self.seen[hold_id] += 1
        answer = self.answers.get(hold_id, Outcome(ok=True))
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeBatch:
    """Three events are a full one."""

    def __init__(self) -> None:
        self.events: list[tuple[bytes | None, dict[str, Any]]] = []

    def append(self, *, key: bytes | None, value: bytes, timestamp: float | None) -> object:
        if len(self.events) == 3 or timestamp is not None:
            return None
        self.events.append((key, orjson.loads(value)))
        return object()


class FakeProducer:
    """Takes batches as aiokafka's producer does: send_batch answers a future of the acknowledgement."""

    def __init__(self) -> None:
        self.down = False
        self.sent: list[tuple[bytes | None, dict[str, Any]]] = []
        self.partition_of: dict[bytes | None, set[int]] = {}

    async def partitions_for(self, _topic: str) -> set[int]:
        if self.down:
            raise ConnectionError("no broker")
        return {0, 1, 2}

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, _topic: str, *, partition: int) -> "asyncio.Future[None]":
        self.sent += batch.events
        for key, _ in batch.events:
            self.partition_of.setdefault(key, set()).add(partition)
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged
