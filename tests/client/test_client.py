"""Both clients against answers made up here: what is retried, how often, and what comes back as which exception."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from bigdata_client import (
    ApiError,
    AsyncClient,
    BrokenAnswer,
    Client,
    InsufficientCredits,
    InvalidRequest,
    RateLimited,
    Retries,
    Unavailable,
    Unreachable,
    UploadFailed,
)
from bigdata_client.uploads import Upload

Handler = Callable[[httpx.Request], httpx.Response]
_META: dict[str, Any] = {
    "query_id": "q1",
    "returned": 1,
    "credits_used": 1,
    "credits_remaining": 9,
    "total_records": 1,
    "dataset": "people",
}
_ANSWER: dict[str, Any] = {"metadata": _META, "data": [{"email": "a@example.com"}]}


class Both:
    """Runs the same use of a client on the sync one or on the async one."""

    def __init__(self, *, awaited: bool) -> None:
        self.awaited = awaited
        self.waits: list[float] = []

    def __call__(
        self,
        handler: Handler,
        use: Callable[[Any], Any],
        *,
        each: Callable[[Any], Any] = lambda one: one,
        **options: Any,
    ) -> Any:
        """`each` sees what an iterator gives, as it comes."""
        transport = httpx.MockTransport(handler)
        if not self.awaited:
            with Client("http://gateway", "bd_key", transport=transport, sleep=self.waits.append, **options) as client:
                found = use(client)
                return list(map(each, found)) if inspect.isgenerator(found) else found

        async def run() -> Any:
            async with AsyncClient(
                "http://gateway", "bd_key", transport=transport, sleep=self._wait, **options
            ) as client:
                found = use(client)
                return [each(one) async for one in found] if inspect.isasyncgen(found) else await found

        return asyncio.run(run())

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture(params=["sync", "async"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(awaited=request.param == "async")


def _error(status: int, code: str, details: Any = None, **headers: str) -> httpx.Response:
    body = {"error": "No", "code": code, "request_id": "r1", "details": details}
    return httpx.Response(status, json=body, headers=headers)


def _in_turn(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    left, seen = list(answers), []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return answer, seen


def test_a_query_is_typed_and_carries_key_and_idempotency_key(both: Both) -> None:
    handler, seen = _in_turn(httpx.Response(200, json=_ANSWER))
    result = both(handler, lambda client: client.query("people", filters={"country": "IN"}, limit=1))
    assert result.metadata.credits_used == 1
    assert [row["email"] for row in result] == ["a@example.com"]
    assert len(result) == 1
    assert json.loads(seen[0].content) == {"dataset": "people", "filters": {"country": "IN"}, "limit": 1}
    assert seen[0].headers["x-api-key"] == "bd_key"
    assert seen[0].headers["idempotency-key"]


def test_a_lost_answer_is_asked_for_again_with_the_same_key(both: Both) -> None:
    handler, seen = _in_turn(httpx.ReadTimeout("late"), httpx.Response(200, json=_ANSWER))
    assert both(handler, lambda client: client.query()).metadata.query_id == "q1"
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    assert [request.content for request in seen] == [seen[0].content] * 2
    assert len(both.waits) == 1


def test_retry_after_is_waited_for(both: Both) -> None:
    handler, _ = _in_turn(_error(503, "unavailable", **{"Retry-After": "3"}), httpx.Response(200, json=_ANSWER))
    both(handler, lambda client: client.query())
    assert both.waits == [3]


def test_more_patience_than_allowed_is_not_had(both: Both) -> None:
    handler, seen = _in_turn(_error(429, "rate_limited", **{"Retry-After": "31"}))
    with pytest.raises(RateLimited) as caught:
        both(handler, lambda client: client.query())
    assert caught.value.retry_after_s == 31
    assert (len(seen), both.waits) == (1, [])


def test_attempts_are_bounded_and_the_last_fault_is_raised(both: Both) -> None:
    handler, seen = _in_turn(*(_error(503, "unavailable") for _ in range(3)))
    with pytest.raises(Unavailable):
        both(handler, lambda client: client.query(), retries=Retries(attempts_max=3))
    assert len(seen) == 3
    assert both.waits[1] <= 1


def test_what_may_have_happened_is_not_repeated_when_twice_is_not_once(both: Both) -> None:
    handler, seen = _in_turn(httpx.ReadTimeout("late"))
    with pytest.raises(Unreachable) as caught:
        both(handler, lambda client: client.create_user("ann"))
    assert caught.value.sent
    assert len(seen) == 1


def test_what_never_left_is_repeated_whatever_it_is(both: Both) -> None:
    created = {"user": {"id": "u", "username": "ann", "role": "user", "status": "active"}, "api_key": "bd_x"}
    handler, seen = _in_turn(httpx.ConnectError("refused"), httpx.Response(200, json=created))
    assert both(handler, lambda client: client.create_user("ann")).api_key == "bd_x"
    assert len(seen) == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 500, 504])
def test_other_refusals_are_final(both: Both, status: int) -> None:
    handler, seen = _in_turn(_error(status, "whatever"))
    with pytest.raises(ApiError) as caught:
        both(handler, lambda client: client.query())
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, "whatever", "r1")
    assert len(seen) == 1


def test_errors_are_exceptions_by_code(both: Both) -> None:
    handler, _ = _in_turn(_error(402, "insufficient_credits", {"available": 0, "needed": 1}))
    with pytest.raises(InsufficientCredits) as poor:
        both(handler, lambda client: client.query())
    assert (poor.value.available, poor.value.needed) == (0, 1)
    handler, _ = _in_turn(_error(422, "invalid_request", [{"path": "limit", "error": "too big"}]))
    with pytest.raises(InvalidRequest) as wrong:
        both(handler, lambda client: client.query())
    assert wrong.value.faults == ["limit: too big"]


def test_a_page_of_a_proxy_is_an_error_too(both: Both) -> None:
    handler, _ = _in_turn(httpx.Response(413, text="<h1>nope</h1>"))
    with pytest.raises(ApiError, match="nope") as caught:
        both(handler, lambda client: client.query())
    assert caught.value.code == "unknown"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": [], "metadata": {"query_id": "q"}}', b"<p>"]
)
def test_an_answer_that_is_none_is_said_to_be_broken(both: Both, body: bytes) -> None:
    handler, _ = _in_turn(httpx.Response(200, content=body))
    with pytest.raises(BrokenAnswer):
        both(handler, lambda client: client.query())


def test_pages_follow_the_cursor_to_its_end(both: Both) -> None:
    first = {**_ANSWER, "metadata": {**_META, "next_cursor": "c2"}}
    handler, seen = _in_turn(httpx.Response(200, json=first), httpx.Response(200, json=_ANSWER))
    found = both(handler, lambda client: client.pages("people", limit=1, offset=5))
    assert [one.metadata.next_cursor for one in found] == ["c2", None]
    assert json.loads(seen[1].content) == {"dataset": "people", "limit": 1, "cursor": "c2"}
    assert seen[0].headers["idempotency-key"] != seen[1].headers["idempotency-key"]


def _arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"n": [1, 2]})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def test_a_table_and_a_data_frame_know_their_receipt(both: Both) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["format"] == "arrow"
        return httpx.Response(200, content=_arrow(), headers={"X-Query-Id": "q9", "X-Credits-Reserved": "20"})

    table = both(handler, lambda client: client.query_arrow("flights"))
    assert table.column("n").to_pylist() == [1, 2]
    assert table.schema.metadata[b"query_id"] == b"q9"
    frame = both(handler, lambda client: client.query_df("flights"))
    assert list(frame["n"]) == [1, 2]
    assert frame.attrs == {"query_id": "q9", "credits_reserved": "20.0"}


def test_half_an_arrow_stream_is_no_table(both: Both) -> None:
    with pytest.raises(BrokenAnswer):
        both(lambda _: httpx.Response(200, content=_arrow()[:50]), lambda client: client.query_arrow("flights"))


class _Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off after its first piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"first,"
        raise httpx.RemoteProtocolError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first,"
        raise httpx.RemoteProtocolError("cut")


def test_a_file_appears_only_when_it_is_whole(both: Both, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(BrokenAnswer, match="not complete"):
        both(lambda _: httpx.Response(200, stream=_Cut()), lambda client: client.query_to_file(path, format="csv"))
    assert list(tmp_path.iterdir()) == []

    whole = httpx.Response(200, content=b"a,b\n1,2\n", headers={"X-Query-Id": "q2", "X-Total-Records": "1"})
    done = both(lambda _: whole, lambda client: client.query_to_file(path, format="csv"))
    assert (done.query_id, done.bytes_written, done.total_records) == ("q2", 8, 1)
    assert path.read_bytes() == b"a,b\n1,2\n"


def _status(state: str, **more: Any) -> dict[str, Any]:
    return {"upload_id": "u1", "state": state, "size": 3, **more}


def test_an_upload_is_sent_followed_by_events_and_ended(both: Both) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            assert request.read() == b"a,b" if not both.awaited else True
            assert dict(request.url.params) == {"dataset": "people", "filename": "x.csv"}
            return httpx.Response(202, json=_status("received"))
        events = f": hello\n\nevent: progress\ndata: {json.dumps(_status('loading'))}\n\n"
        events += f"data: {json.dumps(_status('completed', rows={'total': 1, 'accepted': 1, 'rejected': 0}))}\n\n"
        return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})

    seen: list[Upload] = []
    done = both(
        handler,
        lambda client: client.upload(b"a,b", "people", filename="x.csv", wait=True, on_progress=seen.append),
    )
    assert done.rows.accepted == 1
    assert [one.state for one in seen] == ["sending", "loading", "completed"]
    assert seen[0].bytes_done == 3
    assert both.waits == []


def test_without_events_the_status_is_looked_up(both: Both) -> None:
    states = iter(["loading", "completed"])

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return _error(404, "not_found")
        return httpx.Response(200, json=_status(next(states)))

    assert both(handler, lambda client: client.wait_for_upload("u1")).state == "completed"
    assert len(both.waits) == 1


def test_a_failed_upload_says_why(both: Both) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return (
            _error(404, "not_found")
            if "events" in request.url.path
            else httpx.Response(200, json=_status("failed", error="this is an executable"))
        )

    with pytest.raises(UploadFailed, match="this is an executable"):
        both(handler, lambda client: client.wait_for_upload("u1"))


def test_waiting_for_an_upload_is_bounded(both: Both) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return (
            _error(404, "not_found") if "events" in request.url.path else httpx.Response(200, json=_status("loading"))
        )

    with pytest.raises(TimeoutError, match="still loading after 0 s"):
        both(handler, lambda client: client.wait_for_upload("u1", deadline_s=0))


def test_a_file_is_read_again_for_a_retry(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(b"email\na@example.com\n")
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return _error(503, "unavailable") if len(bodies) == 1 else httpx.Response(202, json=_status("received"))

    assert both(handler, lambda client: client.upload(file, "people")).state == "received"
    assert bodies == [file.read_bytes()] * 2


def test_a_stream_that_cannot_be_read_again_is_not_sent_again(both: Both, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_bytes(b"email\n")
    with file.open("rb") as source, pytest.raises(Unavailable):
        both(lambda _: _error(503, "unavailable"), lambda client: client.upload(source, "people"))
    assert both.waits == []


def test_lists_have_a_cursor_and_moments_are_moments(both: Both) -> None:
    entry = {
        "entry_id": "e",
        "kind": "grant",
        "amount": 1.5,
        "balance": 2,
        "created_at": "2026-11-22T08:00:00Z",
        "new": 1,
    }
    page = httpx.Response(200, json=[entry], headers={"X-Next-Cursor": "c"})
    found = both(lambda _: page, lambda client: client.statement(limit=1))
    assert found.next_cursor == "c"
    assert found.items[0].created_at == datetime(2026, 11, 22, 8, tzinfo=UTC)


def test_an_admin_grant_has_a_key_so_that_a_retry_grants_once(both: Both) -> None:
    answer = httpx.Response(200, json={"user_id": "u", "credits": 5, "balance": 15})
    handler, seen = _in_turn(httpx.ReadError("cut"), answer)
    assert both(handler, lambda client: client.add_credits("u", 5)).balance == 15
    assert seen[0].headers["idempotency-key"] == seen[1].headers["idempotency-key"]


def test_tail_gives_each_request_as_it_comes(both: Both) -> None:
    first = 'id: 7\ndata: {"endpoint": "/v1/query"}\n\n: quiet\n\n'
    second = 'data: {"endpoint":\ndata: "/v1/me"}\n\ndata: broken\n\n'
    handler, seen = _in_turn(
        httpx.Response(200, text=first), httpx.Response(200, text=second), _error(403, "forbidden")
    )
    found: list[str] = []
    with pytest.raises(ApiError, match="forbidden"):
        both(handler, lambda client: client.tail_logs(), each=lambda one: found.append(one["endpoint"]))
    assert found == ["/v1/query", "/v1/me"]
    assert [request.headers.get("last-event-id") for request in seen] == [None, "7", "7"]


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        public = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(one).parameters)
            for name, one in public
            if not name.startswith("_") and name not in {"close", "aclose"}
        }

    assert methods(Client) == methods(AsyncClient)
