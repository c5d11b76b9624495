"""The story of POST /v1/query with every other part played: what is held, charged, released and answered, and when."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from backports import zstd
from fastapi import FastAPI
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.types import Message

from common import http
from common.clock import SystemClock
from common.credit_operations import Outcome
from common.datasets import Dataset, Datasets
from common.errors import (
    ClientError,
    IdempotencyMismatch,
    InsufficientCredits,
    QueryTimeout,
    QueryTooExpensive,
    Unavailable,
)
from common.http import RequestIds, install_error_envelope
from gateway import query
from gateway.audit_trail import AuditTrail
from gateway.hot_routes import HotRoutes
from gateway.query_order import Position
from gateway.query_pages import Pages
from gateway.query_plan import QueryPlan
from gateway.query_scans import Scans
from gateway.query_seals import Seals
from gateway.query_stream import BrokenStream
from gateway.query_versions import Freshness
from gateway.result_cache import ResultCache
from gateway.spool import Captured, Released
from gateway.warehouse import Page, Warehouse, WarehouseFault
from gateway.warehouse_streams import BrokenResult
from support.gateway_parts import ListSpool, caller, gateway_settings
from support.polling import eventually

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

    async def get(self, key: str) -> bytes | None:
        if self.down:
            raise RedisError
        return self.kept.get(key)

    async def set(self, key: str, value: bytes, *, ex: int) -> None:
        if self.down:
            raise RedisError
        assert ex <= 60
        self.kept[key] = value


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


@pytest.fixture(params=["framework", "hot"])
def everything(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Everything:
    """Twice: as the framework routes it, and past it (gateway/hot_routes.py). Nobody may see a difference."""
    # Drawing a traceback with all its variables for the terminal takes seconds.
    monkeypatch.setattr(http, "_log", SimpleNamespace(error=lambda *_, **__: None))
    return Everything(tmp_path, hot=request.param == "hot")


@pytest_asyncio.fixture
async def client(everything: Everything) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(everything.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers={"x-api-key": "k"}) as opened:
        yield opened


async def test_an_answer_is_held_for_in_full_and_charged_for_what_it_has(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/query", json={"limit": 10})
    document = answer.json()
    assert document["data"] == [{"a": 1}, {"a": 2}]
    metadata = document["metadata"]
    assert (metadata["credits_used"], metadata["credits_remaining"]) == (2, 54)  # 50 left after the hold of 6
    assert (metadata["total_records"], metadata["returned"]) == (2, 2)
    assert datetime.fromisoformat(metadata["as_of"]).tzinfo == UTC
    hold_id, amount_mc, key, _ = everything.credits.reserved[0]
    assert (amount_mc, key, metadata["query_id"]) == (6000, None, str(hold_id))
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.hold_id, settlement.amount_mc, settlement.answer) == (hold_id, 2000, None)
    assert (settlement.receipt.rows, settlement.receipt.state) == (2, "captured")
    assert (everything.logged["rows"], everything.logged["credits_used_mc"]) == (2, 2000)
    assert (everything.logged["dataset"], everything.logged["endpoint"]) == ("people", "/v1/query")


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (QueryTimeout(), 504, "query_timeout"),
        (QueryTooExpensive(), 422, "query_too_expensive"),
        (Unavailable(), 503, "unavailable"),
        (WarehouseFault("code 62"), 500, "WarehouseFault"),
    ],
)
async def test_what_fails_costs_nothing_and_its_receipt_says_why(
    everything: Everything, client: httpx.AsyncClient, failure: Exception, status: int, reason: str
) -> None:
    everything.warehouse.result = failure
    answer = await client.post("/v1/query", json={})
    assert answer.status_code == status
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.receipt is not None
    assert (settlement.reason, settlement.receipt.refund_reason, settlement.receipt.state) == (
        reason,
        reason,
        "released",
    )
    assert everything.logged["credits_used_mc"] == 0


@pytest.mark.parametrize("refusal", [InsufficientCredits(details={"available": 0, "needed": 1}), IdempotencyMismatch()])
async def test_without_a_hold_no_query_runs_and_nothing_is_settled(
    everything: Everything, client: httpx.AsyncClient, refusal: ClientError
) -> None:
    everything.credits.refusal = refusal
    answer = await client.post("/v1/query", json={})
    assert (answer.status_code, answer.json()["code"]) == (refusal.status, refusal.code)
    assert everything.warehouse.fetched == []
    assert everything.settlement is None


async def test_a_hold_that_may_have_been_opened_is_released(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.credits.refusal = Unavailable()
    assert (await client.post("/v1/query", json={})).status_code == 503
    assert everything.warehouse.fetched == []
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.hold_id == everything.credits.reserved[0][0]


@pytest.mark.parametrize("body", [b'{"limit": 0}', b"{", b'{"filters": {"nope": 1}}', b'{"max_credits": 0.1}'])
async def test_a_bad_request_never_reaches_credits(
    everything: Everything, client: httpx.AsyncClient, body: bytes
) -> None:
    assert (await client.post("/v1/query", content=body)).status_code in {400, 422}
    assert everything.credits.reserved == []
    assert everything.settlement is None


async def test_a_keyed_answer_is_kept_as_it_was_sent(everything: Everything, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/query", json={}, headers={"Idempotency-Key": "k"})
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert settlement.answer is not None
    assert base64.b64decode(settlement.answer.body_base64) == answer.content
    assert everything.credits.reserved[0][2] == "k"


async def test_an_answer_too_large_to_keep_is_charged_and_not_kept(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.warehouse.result = Page(b'["%b"]' % (b"x" * (1 << 20)), 1, 1)
    assert (await client.post("/v1/query", json={}, headers={"Idempotency-Key": "k"})).status_code == 200
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert settlement.answer is None


async def test_the_digest_is_of_what_is_asked_not_of_how_it_is_written(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    for body in (
        b'{"limit":100,"filters":{"a":1}}',
        b' {"filters": {"a": 1}, "count": "exact"}',
        b'{"filters":{"a":2}}',
    ):
        await client.post("/v1/query", content=body, headers={"Idempotency-Key": "k"})
    first, same, other = (digest for _, _, _, digest in everything.credits.reserved)
    assert first == same != other


async def test_a_repeat_of_a_running_request_is_told_to_come_back(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.credits.earlier = Outcome(ok=True, replayed=True, hold_id=EARLIER, state="open")
    answer = await client.post("/v1/query", json={}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_progress")
    assert answer.headers["Retry-After"] == "1"
    assert (everything.warehouse.fetched, everything.settlement) == ([], None)


async def test_a_repeat_of_an_answered_request_gets_its_bytes(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.credits.earlier = Outcome(ok=True, replayed=True, hold_id=EARLIER, state="captured")
    kept = base64.b64encode(b'{"kept": 1}').decode()
    everything.credits.answer = {"status": 200, "headers": {"content-type": "application/json"}, "body_base64": kept}
    answer = await client.post("/v1/query", json={}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.content) == (200, b'{"kept": 1}')
    assert answer.headers["content-type"] == "application/json"
    assert (everything.warehouse.fetched, everything.settlement) == ([], None)


async def test_a_repeat_of_an_answer_that_was_not_kept_gets_the_receipt(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.credits.earlier = Outcome(ok=True, replayed=True, hold_id=EARLIER, state="captured")
    answer = await client.post("/v1/query", json={}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_delivered")
    assert (answer.json()["details"]["credits_used"], answer.json()["details"]["rows"]) == (1.5, 3)


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"two words", "naïve".encode("latin-1")])
async def test_a_key_that_is_none_is_refused(everything: Everything, client: httpx.AsyncClient, key: bytes) -> None:
    answer = await client.post("/v1/query", json={}, headers=[(b"Idempotency-Key", key)])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")
    twice = await client.post("/v1/query", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert twice.status_code == 400
    assert everything.credits.reserved == []


async def test_a_client_that_leaves_stops_its_query_and_pays_nothing(everything: Everything) -> None:
    everything.warehouse.stuck = True
    left = asyncio.Event()
    body: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Message) -> None:
        pass

    running = asyncio.ensure_future(everything.app(scope(), receive, send))
    left.set()
    await asyncio.wait_for(running, 5)
    assert everything.warehouse.cancelled
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert (settlement.reason, everything.logged["status"]) == ("client_left", 499)


async def test_an_answer_of_the_last_minute_is_given_again_at_its_own_price(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    first = (await client.post("/v1/query", json={"limit": 5})).json()
    again = (await client.post("/v1/query", json={"limit": 5, "offset": 0, "count": "exact"})).json()
    assert len(everything.warehouse.fetched) == 1
    assert again["data"] == first["data"]
    assert (first["metadata"]["cached"], again["metadata"]["cached"]) == (False, True)
    assert again["metadata"]["query_id"] != first["metadata"]["query_id"]
    assert again["metadata"]["as_of"] == first["metadata"]["as_of"]
    assert [amount for _, amount, _, _ in everything.credits.reserved] == [3500, 2000]  # the second one's is known


async def test_another_version_or_another_view_of_the_data_is_another_answer(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    await client.post("/v1/query", json={"limit": 5})
    everything.versions.version = 2
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 2
    everything.declare(PRICE, columns={"a": {"type": "integer", "pii": True}})
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 3
    everything.caller = replace(everything.caller, scopes=frozenset({"query", "pii"}))
    await client.post("/v1/query", json={"limit": 5})
    assert len(everything.warehouse.fetched) == 3  # it sees what was to be seen before: the second answer
    everything.caller = replace(everything.caller, scopes=frozenset({"query"}))


async def test_a_failure_is_not_kept_and_without_redis_all_is_well(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    page, everything.warehouse.result = everything.warehouse.result, QueryTimeout()
    assert (await client.post("/v1/query", json={})).status_code == 504
    everything.warehouse.result = page
    everything.redis.down = True
    for _ in range(2):
        assert (await client.post("/v1/query", json={})).status_code == 200
    assert len(everything.warehouse.fetched) == 3
    assert everything.redis.kept == {}


async def test_equal_queries_at_once_are_asked_once(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.redis.down = True
    begun, go = asyncio.Event(), asyncio.Event()
    fetch = everything.warehouse.fetch

    async def slow(plan: QueryPlan, _query_id: UUID) -> Page:
        begun.set()
        await go.wait()
        return await fetch(plan, _query_id)

    everything.warehouse.fetch = slow  # type: ignore[method-assign]
    asking = [asyncio.create_task(client.post("/v1/query", json={})) for _ in range(5)]
    await begun.wait()
    await eventually(lambda: len(everything.credits.reserved) == 5)
    go.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert len(everything.warehouse.fetched) == 1
    assert len(everything.spool.records) == 5


async def test_scans_of_one_user_wait_for_each_other_and_not_for_ever(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.warehouse.stuck = True
    asking = [asyncio.create_task(client.post("/v1/query", json={"limit": n})) for n in (1, 2)]
    await eventually(lambda: len(everything.warehouse.fetched) == 2)
    refused = await client.post("/v1/query", json={"limit": 3})
    assert (refused.status_code, refused.json()["details"]) == (429, {"scans_at_once": 2})
    everything.caller = replace(everything.caller, user_id=UUID(int=8))
    third = asyncio.create_task(client.post("/v1/query", json={"limit": 4}))
    await eventually(lambda: len(everything.warehouse.fetched) == 3)
    for task in (*asking, third):
        task.cancel()
    await asyncio.wait([*asking, third])


async def test_a_stream_has_its_figures_in_headers_and_is_charged_by_its_rows(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/v1/query", json={"format": "csv", "count": "exact"})
    assert answer.text == '"a","ingest_ts"\n"x"\n"y"\n'
    assert answer.headers["content-type"].startswith("text/csv")
    assert (answer.headers["x-total-records"], answer.headers["x-credits-reserved"]) == ("7", "20")
    hold_id, amount_mc, _, _ = everything.credits.reserved[0]
    assert (answer.headers["x-query-id"], amount_mc) == (str(hold_id), 20_000)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.amount_mc, settlement.receipt.rows) == (2000, 2)
    assert everything.warehouse.closed


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_stream_is_packed_on_request(everything: Everything, client: httpx.AsyncClient, coding: str) -> None:
    everything.warehouse.pieces = [b'{"a":1}\n' * 20_000, b'{"a":2}\n']
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": coding}
    async with client.stream("POST", "/v1/query", json={}, headers=headers) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    unpacked = gzip.decompress(raw) if coding == "gzip" else zstd.decompress(raw)
    assert (answer.headers["content-encoding"], unpacked.count(b"\n")) == (coding, 20_001)
    assert everything.logged["rows"] == 20_001


@pytest.mark.parametrize("fault", [BrokenResult(159), BrokenResult(None), ConnectionResetError()])
async def test_a_stream_that_breaks_is_cut_and_costs_nothing(
    everything: Everything, client: httpx.AsyncClient, fault: Exception
) -> None:
    everything.warehouse.pieces = [b'{"a":1}\n', fault]
    await client.post("/v1/query", json={"format": "ndjson"})
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert settlement.reason.startswith("stream broke")
    assert (everything.logged["status"], everything.warehouse.closed) == (500, True)


async def test_a_stream_that_is_refused_is_an_error_of_its_own(
    everything: Everything, client: httpx.AsyncClient
) -> None:
    everything.warehouse.result = QueryTooExpensive()
    answer = await client.post("/v1/query", json={"format": "parquet"})
    assert (answer.status_code, answer.json()["details"]["estimate"]) == (422, {"rows_read": 1234})
    assert isinstance(everything.settlement, Released)


@pytest.mark.parametrize("stuck_at", ["opening", "the first bytes"])
async def test_a_stream_that_does_not_begin_in_time_is_a_timeout(
    everything: Everything, client: httpx.AsyncClient, stuck_at: str
) -> None:
    everything.settings(query_timeout_s=0.05)

    async def opened(_plan: QueryPlan, _query_id: UUID) -> PlayedResult:
        if stuck_at == "opening":
            await asyncio.Event().wait()
        everything.warehouse.pieces, everything.warehouse.stuck = [], True
        return PlayedResult(everything.warehouse)

    everything.warehouse.open_result = opened  # type: ignore[method-assign, assignment]
    answer = await client.post("/v1/query", json={"format": "csv"})
    assert (answer.status_code, answer.json()["code"]) == (504, "query_timeout")
    assert isinstance(everything.settlement, Released)
    assert everything.warehouse.closed == (stuck_at != "opening")


async def test_a_client_that_leaves_a_stream_pays_for_the_rows_sent(everything: Everything) -> None:
    everything.warehouse.stuck = True
    left = asyncio.Event()
    sent: list[Message] = []
    body: list[Message] = [{"type": "http.request", "body": b'{"format":"ndjson"}', "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    running = asyncio.ensure_future(everything.app(scope(), receive, send))
    await eventually(lambda: len(sent) == 3)
    left.set()
    await asyncio.wait_for(running, 5)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert (settlement.amount_mc, settlement.receipt.rows, everything.logged["status"]) == (2000, 2, 499)
    assert everything.warehouse.closed


async def test_a_reader_that_takes_nothing_is_cut_at_the_holds_deadline(everything: Everything) -> None:
    everything.settings(hold_ttl_s=1)
    everything.warehouse.stuck = True
    body: list[Message] = [{"type": "http.request", "body": b'{"format":"ndjson"}', "more_body": False}]

    async def receive() -> Message:
        if not body:
            await asyncio.Event().wait()
        return body.pop()

    async def send(message: Message) -> None:
        if message.get("body") == b'"y"\n':
            await asyncio.Event().wait()

    with pytest.raises(BrokenStream):
        await asyncio.wait_for(everything.app(scope(), receive, send), 20)
    settlement = everything.settlement
    assert isinstance(settlement, Captured)
    assert everything.logged["status"] == 499


async def test_a_stream_that_moves_keeps_its_hold_open(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.settings(hold_ttl_s=1)

    class Slow(PlayedResult):
        async def pieces(self) -> AsyncIterator[bytes]:
            for _ in range(8):
                await asyncio.sleep(0.2)
                yield b"1\n"

    async def opened(plan: QueryPlan, _query_id: UUID) -> PlayedResult:
        assert plan.form.streamed
        return Slow(everything.warehouse)

    everything.warehouse.open_result = opened  # type: ignore[method-assign]
    answer = await client.post("/v1/query", json={"format": "ndjson"})
    assert answer.text == "1\n" * 8
    assert everything.credits.extended >= 2


async def test_a_full_page_says_where_the_next_one_begins(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.warehouse.result = Page(b"[1,2]", 2, 9, 0, b'["2026-01-01 00:00:00.000000","5","00ff"]')
    first = (await client.post("/v1/query", json={"limit": 2, "sort": "a"})).json()["metadata"]
    cursor = first["next_cursor"]
    assert cursor
    following = await client.post("/v1/query", json={"limit": 3, "sort": "a", "cursor": cursor, "select": ["a"]})
    assert following.status_code == 200, following.text
    plan = everything.warehouse.fetched[-1]
    assert plan.position == Position("2026-01-01 00:00:00.000000", ("5",), "00ff", 9)
    for other in ({"sort": "a DESC"}, {"sort": "a", "filters": {"a": 1}}):
        refused = await client.post("/v1/query", json={"cursor": cursor, **other})
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "cursor")
    changed = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    assert (await client.post("/v1/query", json={"cursor": changed, "sort": "a"})).status_code == 422


async def test_a_quote_is_kept_when_prices_rise(everything: Everything, client: httpx.AsyncClient) -> None:
    quote = (await client.post("/v1/query/quote", json={"limit": 5})).json()
    assert (quote["credits_min"], quote["credits_max"], quote["rows_read_estimate"]) == (1, 3.5, 1234)
    everything.declare({"per_query": 10, "per_row": 1, "per_query_max": 99})
    answer = await client.post("/v1/query", json={"limit": 5, "quote_id": quote["quote_id"]})
    assert answer.json()["metadata"]["credits_used"] == 2
    for body in ({"limit": 6, "quote_id": quote["quote_id"]}, {"limit": 5, "quote_id": "x"}):
        refused = await client.post("/v1/query", json=body)
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "quote_id")
    everything.caller = replace(everything.caller, user_id=UUID(int=8))
    assert (await client.post("/v1/query", json={"limit": 5, "quote_id": quote["quote_id"]})).status_code == 422


async def test_a_dataset_that_is_not_granted_is_forbidden(everything: Everything, client: httpx.AsyncClient) -> None:
    everything.declare(PRICE, access={"query": {"users": ["somebody"]}})
    answer = await client.post("/v1/query", json={})
    assert (answer.status_code, answer.json()["details"]) == (403, {"dataset": "people"})
    assert everything.credits.reserved == []
