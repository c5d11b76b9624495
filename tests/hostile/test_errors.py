"""Bodies, paths and headers that are no requests: one envelope for every fault, the framework's included."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.accounts import Account, open_account
from support.client import Answered, create_user, open_client

_NOT_JSON = {
    "nothing": b"",
    "cut": b'{"limit": ',
    "single quotes": b"{'limit': 1}",
    "a comma too many": b'{"limit": 1,}',
    "two documents": b"{}{}",
    "utf-16": '{"limit": 1}'.encode("utf-16"),
    "utf-32": '{"limit": 1}'.encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "not utf-8": b'{"dataset": "\xff"}',
    "100,000 levels of lists": b"[" * 100_000 + b"]" * 100_000,
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a NUL": b"\x00",
}
_NO_VALUES = {
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "NaN": b'{"limit": NaN}',
    "Infinity": b'{"limit": -Infinity}',
    "1e400": b'{"limit": 1e400}',
    "4,301 digits": b'{"limit": ' + b"9" * 4301 + b"}",
    "a lone surrogate": b'{"dataset": "\\ud800"}',
    "a lone surrogate as a name": b'{"\\udfff": 1}',
    "U+0000": b'{"dataset": "a\\u0000b"}',
    "a key twice": b'{"limit": 1, "limit": 2}',
    "a key twice, once escaped": b'{"limit": 1, "l\\u0069mit": 2}',
    "a name that is not ascii": '{"límit": 1}'.encode(),
    "an unknown name": b'{"nothing": 1}',
}
_NO_LIMITS = ("true", '"5"', "1.5", "0", "-1", "1e9", "9223372036854775808", "[1]", "{}")


@pytest_asyncio.fixture
async def account(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Account]:
    """Nothing that is asked here may cost a credit."""
    async with open_account(stack, admin, answered) as opened:
        yield opened
        assert await opened.charges() == 0
        assert await opened.balance() == (10, 0)


def _require_envelope(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert set(body) == {"error", "code", "request_id", "details"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["error"]
    assert answer.headers["content-type"] == "application/json"
    assert not re.search(r"Traceback|File \"|SELECT|asyncpg|clickhouse|pydantic", answer.text, re.IGNORECASE)
    return body


async def test_what_is_no_json_is_said_to_be_none(account: Account) -> None:
    async with account.client() as http:
        for kind, body in _NOT_JSON.items():
            answer = await http.post("/v1/query", content=body)
            assert (answer.status_code, _require_envelope(answer)["code"]) == (400, "malformed_json"), kind


async def test_json_that_cannot_be_a_request_is_refused_with_its_place(account: Account) -> None:
    async with account.client() as http:
        for kind, body in _NO_VALUES.items():
            answer = await http.post("/v1/query", content=body)
            assert (answer.status_code, _require_envelope(answer)["code"]) == (422, "invalid_request"), kind
        for limit in _NO_LIMITS:
            answer = await http.post("/v1/query", content=f'{{"limit": {limit}}}'.encode())
            assert answer.status_code == 422, limit
            assert "limit" in str(_require_envelope(answer)["details"]), limit


async def test_every_route_with_a_body_refuses_what_is_no_body(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    """Walked by the OpenAPI document, as an admin, so that bodies are looked at."""
    document = (await admin.get("/openapi.json")).json()
    created = await create_user(admin, f"walker-{new_id()}", role="admin", plan="unlimited")
    walked = 0
    async with open_client(stack, created["api_key"], answered) as http:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                    continue
                url = re.sub(r"\{\w+\}", str(UUID(int=1)), path)
                for body, expected in ((b"{", 400), (b'{"a": NaN}', 422), (b'{"a": 1, "a": 2}', 422), (b"[]", 422)):
                    answer = await http.request(method, url, content=body)
                    assert answer.status_code == expected, f"{method} {path} {body!r}: {answer.text}"
                    _require_envelope(answer)
                large = await http.request(method, url, content=b'{"a": "' + b"x" * (9 << 20) + b'"}')
                assert (large.status_code, _require_envelope(large)["code"]) == (413, "too_large"), path
                packed = await http.request(method, url, content=b"{}", headers={"content-encoding": "gzip"})
                assert (packed.status_code, _require_envelope(packed)["code"]) == (415, "unsupported_format"), path
                walked += 1
    assert walked >= 8


_NOWHERE = ("/", "/v1", "/v1/", "/v1/nothing", "/v2/query", "/v1/query/", "/metrics", "/v1/..%2f", "/%00", "/ü")


async def test_what_is_not_there_and_what_is_not_done_there(account: Account) -> None:
    async with account.client() as http:
        for path in (
            "/",
            "/v1",
            "/v1/",
            "/v1/nothing",
            "/v2/query",
            "/v1/query/",
            "/metrics",
            "/v1/..%2f",
            "/%00",
            "/ü",
        ):
            answer = await http.get(path)
            assert (answer.status_code, _require_envelope(answer)["code"]) in {(404, "not_found"), (405, "not_found")}
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            answer = await http.request(method, "/v1/query")
            assert (answer.status_code, _require_envelope(answer)["code"]) == (405, "not_found")
            assert answer.headers["allow"] == "POST"


async def test_parameters_that_are_none_are_named(account: Account) -> None:
    async with account.client() as http:
        for path, place in (
            ("/v1/usage?days=many", "query.days"),
            ("/v1/usage?days=1e3", "query.days"),
            ("/v1/usage?days=0", "query.days"),
            ("/v1/usage?days=99999999999999999999", "query.days"),
            ("/v1/credits/statement?limit=-1", "query.limit"),
            ("/v1/credits/statement?cursor=%00", "query.cursor"),
            ("/v1/queries/none", "path.query_id"),
            ("/v1/queries/%00", "path.query_id"),
        ):
            answer = await http.get(path)
            assert answer.status_code == 422, path
            assert _require_envelope(answer)["details"][0]["path"] == place


async def test_a_body_that_lies_about_its_length_is_refused(account: Account) -> None:
    async with account.client() as http:
        for length, expected in (("-1", 400), ("many", 400), ("9" * 30, 413)):
            request = http.build_request("POST", "/v1/query", content=b"{}", headers={"content-length": length})
            try:
                answer = await http.send(request)
            except httpx.TransportError:  # the client or the server's parser saw it first
                continue
            assert answer.status_code == expected
            _require_envelope(answer)


async def test_bytes_that_are_no_http_are_answered_like_every_fault_and_in_the_log(
    stack: Stack, answered: Answered
) -> None:
    address = httpx.URL(stack.url())
    for sent in (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", b"GET /v1/me HTTP/1.1\r\ncontent-length: -1\r\n\r\n"):
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        fault = orjson.loads(body)
        assert (head[:12], fault["code"]) == (b"HTTP/1.1 400", "bad_header")
        assert fault["request_id"].encode() in head
        answered.add(fault["request_id"])  # invariant I4 looks for it in the log
