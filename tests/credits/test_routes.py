"""The service's port without a database: tokens, the error envelope, and which bytes reach the queue."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from common.errors import Unavailable
from common.ids import new_id
from credits.app import make_app
from credits.ledger import Outcome, Row
from credits.settings import Settings
from credits.wiring import Credits

RESERVE = {"user_id": str(new_id()), "hold_id": str(new_id()), "amount_mc": 5, "ttl_s": 60, "digest": "0" * 64}


class Commits:
    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.answer: Outcome | Exception = {"ok": True, "state": "open"}

    async def submit(self, rows: Sequence[Row]) -> list[Outcome | Exception]:
        self.rows += rows
        return [self.answer] * len(rows)


@pytest.fixture
def commits() -> Commits:
    return Commits()


@pytest_asyncio.fixture
async def client(commits: Commits) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings.model_validate(
        {
            "postgres_url": "postgresql://nowhere",
            "kafka_brokers": "nowhere:1",
            "credits_tokens": "new, old,",
            "body_bytes_max": 4096,
        }
    )
    app = make_app(Credits(settings, cast("Any", None), cast("Any", commits)))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://credits") as client:
        client.headers["authorization"] = "Bearer new"
        yield client


@pytest.mark.parametrize("token", ["new", "old"])
async def test_two_tokens_are_accepted_at_once(client: httpx.AsyncClient, token: str) -> None:
    answer = await client.post("/v1/reserve", json=RESERVE, headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("header", [b"Bearer other", b"Bearer ", b"Bearer", b"", b"new", b"bearer new", b"Bearer \xff"])
async def test_any_other_token_is_refused_before_the_body_is_looked_at(
    client: httpx.AsyncClient, commits: Commits, header: bytes
) -> None:
    answer = await client.post("/v1/reserve", content=b"{", headers={"authorization": cast("Any", header)})
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_api_key"
    assert not commits.rows


async def test_a_call_without_a_token_reaches_health_and_nothing_else(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    assert (await client.get("/healthz")).status_code == 200
    for path in ("/v1/reconcile", "/v1/balance/x", "/v1/statement", "/v1/answers", "/openapi.json", "/v1/nothing"):
        assert (await client.get(path)).status_code == 401


async def test_a_batch_is_answered_with_one_outcome_each(client: httpx.AsyncClient, commits: Commits) -> None:
    operations = [{"op": "reserve", **RESERVE}] * 3
    answer = await client.post("/v1/batch", json={"operations": operations})
    assert answer.json() == {"outcomes": [commits.answer] * 3}
    assert answer.headers["x-request-id"]


async def test_a_single_refusal_is_an_error_with_its_figures(client: httpx.AsyncClient, commits: Commits) -> None:
    commits.answer = {"ok": False, "code": "insufficient_credits", "available_mc": 2, "needed_mc": 5}
    answer = await client.post("/v1/reserve", json=RESERVE)
    assert answer.status_code == 402
    error = answer.json()
    assert (error["code"], error["details"]) == ("insufficient_credits", {"available_mc": 2, "needed_mc": 5})


async def test_an_unknown_outcome_says_when_to_ask_again(client: httpx.AsyncClient, commits: Commits) -> None:
    commits.answer = Unavailable()
    answer = await client.post("/v1/batch", json={"operations": [{"op": "reserve", **RESERVE}]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 422), (b'{"a": NaN}', 422), (b" " * 5000, 413), (b"\xff\xfe", 422), (b"[" * 3000, 422)],
)
async def test_a_bad_body_is_refused_with_the_envelope(
    client: httpx.AsyncClient, commits: Commits, content: bytes, status: int
) -> None:
    for path in ("/v1/batch", "/v1/reserve", "/v1/capture"):
        answer = await client.post(path, content=content)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "code", "request_id", "details"}
    assert not commits.rows


async def test_a_refusal_never_repeats_what_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/reserve", json={**RESERVE, "digest": "canary"})
    assert answer.status_code == 422
    assert "canary" not in answer.text


@pytest.mark.parametrize("path", ["/v1/balance/me", "/v1/statement?user_id=x", "/v1/receipts/1", "/v1/answers?key=k"])
async def test_bad_parameters_of_reads_are_refused(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 422
