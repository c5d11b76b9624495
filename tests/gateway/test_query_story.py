"""The story of POST /v1/query with every other part played: what is held, charged, released and answered, and when."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
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
from gateway.query_plan import QueryPlan
from gateway.spool import Captured, Released
from gateway.warehouse import Page, WarehouseFault
from support.gateway_parts import ListSpool, caller, gateway_settings

PRICE = {"per_query": 1, "per_row": 0.5, "per_query_max": 20}
EARLIER = UUID(int=99)


class PlayedCredits:
    """Opens every hold unless told otherwise."""

    def __init__(self) -> None:
        self.reserved: list[tuple[UUID, int, str | None, str]] = []
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
        self.stuck = False
        self.cancelled = False

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


class Everything:
    """The app with its two outermost layers, and what it left behind."""

    def __init__(self, folder: Path) -> None:
        self.credits = PlayedCredits()
        self.warehouse = PlayedWarehouse()
        self.spool = ListSpool()
        declared = {"name": "people", "columns": {"a": {"type": "integer"}}, "price": PRICE}
        app = FastAPI()
        install_error_envelope(app)
        app.include_router(query.router)
        app.state.gateway = SimpleNamespace(
            settings=gateway_settings(folder),
            datasets=Datasets({"people": Dataset.model_validate(declared)}),
            credits=self.credits,
            warehouse=self.warehouse,
            clock=SystemClock(),
            api_keys=SimpleNamespace(caller_of=self._caller),
            rate_limit=SimpleNamespace(admit=self._admit),
        )
        self.app = AuditTrail(RequestIds(app), self.spool, SystemClock())

    async def _caller(self, _digest: str) -> Any:
        return caller()

    async def _admit(self, *_who: Any) -> Any:
        return SimpleNamespace(headers=[], leave=None, raise_if_refused=lambda: None)

    @property
    def settlement(self) -> Captured | Released | None:
        assert len(self.spool.records) == 1
        return self.spool.records[0][1]

    @property
    def logged(self) -> dict[str, Any]:
        return self.spool.records[-1][0]


@pytest.fixture
def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Everything:
    # Drawing a traceback with all its variables for the terminal takes seconds.
    monkeypatch.setattr(http, "_log", SimpleNamespace(error=lambda *_, **__: None))
    return Everything(tmp_path)


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

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/query",
        "query_string": b"",
        "headers": [(b"x-api-key", b"k")],
    }
    running = asyncio.ensure_future(everything.app(scope, receive, send))
    left.set()
    await asyncio.wait_for(running, 5)
    assert everything.warehouse.cancelled
    settlement = everything.settlement
    assert isinstance(settlement, Released)
    assert (settlement.reason, everything.logged["status"]) == ("client_left", 499)
