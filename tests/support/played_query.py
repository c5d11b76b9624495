"""POST /v1/query with every other part played, and what the parts were asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.clock import SystemClock
from common.credit_operations import Outcome
from common.datasets import Dataset, Datasets
from common.errors import (
    ClientError,
)
from common.http import RequestIds, install_error_envelope
from gateway import query
from gateway.audit_trail import AuditTrail
from gateway.hot_routes import HotRoutes
from gateway.query_pages import Pages
from gateway.query_plan import QueryPlan
from gateway.query_scans import Scans
from gateway.query_seals import Seals
from gateway.query_versions import Freshness
from gateway.result_cache import ResultCache
from gateway.spool import Captured, Released
from gateway.warehouse import Page, Warehouse
from support.gateway_parts import ListSpool, caller, gateway_settings

PRICE = {"per_query": 1, "per_row": 0.5, "per_query_max": 20}
EARLIER = UUID(int=99)


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/v1/query",
        "query_string": b"",
        "headers": [(b"x-api-key", b"k")],
    }


class PlayedCredits:
    """Opens every hold unless told otherwise."""

    def __init__(self) -> None:
        self.reserved: list[tuple[UUID, int, str | None, str]] = []
        self.extended = 0
        self.refusal: ClientError | None = None
        self.earlier: Outcome | None = None
        self.answer: dict[str, Any] | None = None

    async def reserve(
        self, _user: UUID, hold_id: UUID, amount_mc: int, _ttl_s: int, key: str | None, digest: str
    ) -> Outcome:
        self.reserved.append((hold_id, amount_mc, key, digest))
        if self.refusal:
            raise self.refusal
        return self.earlier or Outcome(ok=True, hold_id=hold_id, state="open", available_mc=50_000)

    async def extend(self, _user: UUID, _hold: UUID, _ttl_s: int) -> bool:
        self.extended += 1
        return True

    async def read(self, path: str, params: Mapping[str, str]) -> tuple[Any, Mapping[str, str]]:
        assert (path, params["key"]) == ("/v1/answers", "k")
        receipt = dict.fromkeys(("dataset", "duration_ms", "price_version", "refund_reason", "created_at"))
        receipt |= {
            "query_id": str(EARLIER),
            "state": "captured",
            "rows": 3,
            "credits_held_mc": 2000,
            "credits_used_mc": 1500,
        }
        return {"answer": self.answer, "receipt": receipt}, {}


class PlayedWarehouse:
    def __init__(self) -> None:
        self.result: Page | Exception = Page(b'[{"a":1},{"a":2}]', 2, 2)
        self.fetched: list[QueryPlan] = []
        self.pieces: list[bytes | Exception] = [b'"x"\n', b'"y"\n']
        self.closed = False
        self.stuck = False
        self.cancelled = False

    async def estimate(self, _plan: QueryPlan) -> int:
        return 1234

    async def count_of(self, _plan: QueryPlan, _query_id: UUID) -> int:
        return 7

    async def total(self, _plan: QueryPlan, rows_max: int) -> int:
        return rows_max

    async def open_result(self, plan: QueryPlan, _query_id: UUID) -> "PlayedResult":
        self.fetched.append(plan)
        if isinstance(self.result, Exception):
            raise self.result
        return PlayedResult(self)

    async def fetch(self, plan: QueryPlan, _query_id: UUID) -> Page:
        self.fetched.append(plan)
        if self.stuck:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class PlayedVersions:
    def __init__(self) -> None:
        self.version = 1

    async def of(self, _dataset: str) -> Freshness:
        return Freshness(self.version)


class PlayedResult:
    def __init__(self, warehouse: PlayedWarehouse) -> None:
        self._warehouse = warehouse

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._warehouse.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        if self._warehouse.stuck:
            await asyncio.Event().wait()

    def close(self) -> None:
        self._warehouse.closed = True


class PlayedRedis:
    """A dictionary; `down` refuses everything."""

    def __init__(self) -> None:
        self.down = False
        self.kept: dict[str, bytes] = {}
        self._sent: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise RedisError
        return self.kept.get(key)

    @asynccontextmanager
    async def pipeline(self, *, transaction: bool) -> AsyncIterator["PlayedRedis"]:
        assert not transaction
        yield self

    def set(self, key: str, value: bytes, *, ex: int) -> None:
        assert ex <= 60
        self._sent[key] = value

    async def execute(self) -> None:
        if self.down:
            raise RedisError
        self.kept |= self._sent


class Everything:
    """The app with its two outermost layers, and what it left behind."""

    def __init__(self, folder: Path, *, hot: bool) -> None:
        self.credits = PlayedCredits()
        self.warehouse = PlayedWarehouse()
        self.spool = ListSpool()
        declared = {"name": "people", "columns": {"a": {"type": "integer"}}, "price": PRICE}
        self.versions = PlayedVersions()
        self.redis = PlayedRedis()
        self.caller = caller()
        app = FastAPI()
        install_error_envelope(app)
        app.include_router(query.router)
        app.state.gateway = SimpleNamespace(
            settings=gateway_settings(folder),
            datasets=Datasets({"people": Dataset.model_validate(declared)}),
            credits=self.credits,
            warehouse=self.warehouse,
            versions=self.versions,
            scans=(scans := Scans(2, 0.05)),
            pages=Pages(
                cast("Warehouse", self.warehouse), ResultCache(cast("Redis", self.redis), SystemClock()), scans
            ),
            seals=Seals(["new", "old"]),
            clock=SystemClock(),
            api_keys=SimpleNamespace(caller_of=self._caller),
            rate_limit=SimpleNamespace(admit=self._admit),
        )
        self.gateway = app.state.gateway
        routes = HotRoutes(app, {("POST", "/v1/query"): query.answer_query}) if hot else app
        self.app = AuditTrail(RequestIds(routes), self.spool, SystemClock())

    def declare(self, price: dict[str, Any], **more: Any) -> None:
        declared = {"name": "people", "columns": {"a": {"type": "integer"}}, "price": price, **more}
        self.gateway.datasets = Datasets({"people": Dataset.model_validate(declared)})

    def settings(self, **changed: Any) -> None:
        self.gateway.settings = self.gateway.settings.model_copy(update=changed)

    async def _caller(self, _digest: str) -> Any:
        return self.caller

    async def _admit(self, *_who: Any) -> Any:
        return SimpleNamespace(headers=[], leave=None, raise_if_refused=lambda: None)

    @property
    def settlement(self) -> Captured | Released | None:
        assert len(self.spool.records) == 1
        return self.spool.records[0][1]

    @property
    def logged(self) -> dict[str, Any]:
        return self.spool.records[-1][0]
