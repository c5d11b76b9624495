"""A query with an Idempotency-Key, once and again, with every other part played."""

import base64

import httpx
import pytest

from common.credit_operations import Outcome
from gateway.spool import Captured
from gateway.warehouse import Page
from support.played_query import EARLIER, Everything


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
