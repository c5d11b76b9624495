"""Hostile queries. Whatever is asked: no fault of ours, no charge for what is refused, one row in the log, the same
process alive. Scans that read too much, and many of them at once: journeys/test_query_answers.py.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.accounts import Account, open_account
from support.client import Answered, create_user, open_client

_SQL = [
    "' OR '1'='1",
    "'; DROP TABLE people; --",
    "a' UNION ALL SELECT name FROM system.tables --",
    "') OR 1=1 SETTINGS max_rows_to_read = 0, readonly = 0 --",
    "url('http://127.0.0.1:9/x', CSV, 'a String')",
    "s3('http://127.0.0.1:9/x')",
    "file('/etc/passwd', CSV, 'a String')",
    "remote('127.0.0.1', system.one)",
    "executable('id', CSV, 'a String')",
    "`email` FROM people; --",
    "email, (SELECT password FROM system.users)",
    "{p0:String}",
    "{limit:Identifier}",
    "$$x$$",
    "\\'; --",
    "/* */",
    "x\\",
]


@pytest_asyncio.fixture
async def asker(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Account]:
    """10 credits that nothing here may take, and a gateway that must not have been started again."""
    started = stack.status().to_json()["processes"]["gateway"]["pid"]
    async with open_account(stack, admin, answered) as account:
        yield account
        await account.settled_at(10)
    assert stack.status().to_json()["processes"]["gateway"]["pid"] == started


async def refused(client: httpx.AsyncClient, body: Any, status: int = 422) -> dict[str, Any]:
    answer = await client.post("/v1/query", json=body)
    assert answer.status_code == status, (body, answer.text)
    document: dict[str, Any] = answer.json()
    assert "SELECT" not in document["error"]
    return document


async def test_sql_where_a_name_belongs_is_no_name(asker: Account) -> None:
    async with asker.client() as client:
        for text in _SQL:
            for body in (
                {"dataset": text},
                {"filters": {text: 1}},
                {"filters": {"city": {text: 1}}},
                {"range": {text: {"from": 1}}},
                {"fuzzy": {text: {"query": "abc"}}},
                {"select": [text]},
                {"sort": text},
                {"sort": [f"city {text}"]},
                {"count": text},
                {"format": text},
                {"cursor": text},
                {"quote_id": text},
                {"aggregate": {"metrics": {text: "count()"}}},
                {"aggregate": {"metrics": {"n": text}}},
                {"aggregate": {"metrics": {"n": f"count({text})"}}},
                {"aggregate": {"metrics": {"n": "count()"}, "group_by": [text]}},
                {"aggregate": {"metrics": {"n": "count()"}, "group_by": [f"day({text})"]}},
                {
                    "aggregate": {
                        "metrics": {"n": "count()"},
                        "group_by": [{"column": "record_ts", "every": "day", "as": text}],
                    }
                },
            ):
                assert (await refused(client, body))["code"] == "invalid_request"


async def test_sql_where_a_value_belongs_is_a_value(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> None:
    created = await create_user(admin, f"asker-{new_id()}", credits=100, plan="unlimited")
    texts = [*_SQL, "%", "_", "100%", "a_b", "\\", "trailing\\", "\x7f", "\u202e", "'" * 200]
    async with open_client(stack, created["api_key"], answered) as client:
        for text in texts:
            marked = f"{new_id().hex}{text}"
            filters = {"city": {"eq": marked}, "state": [marked, f"{marked}z"], "source": {"prefix": marked}}
            body = {"filters": filters, "fuzzy": {"last_name": {"query": marked}, "state": {"query": text}}}
            found = await client.post("/v1/query", json=body)
            assert (found.status_code, found.json()["data"]) == (200, []), text


_LIMITS: list[Any] = [0, -1, 10**9, 1_000_001, 1001, True, "5", 1.5, 2**63, [], {}]
_OFFSETS: list[Any] = [-1, 100_001, True, "0", 2**70]
_AGES: list[Any] = [2**63, -(2**63) - 1, 10**400, True, "5", 1.5, [[1]], [None]]
_TIMES: list[Any] = ["yesterday", "2300-01-01", 10**30, [], True]
_LIKENESSES: list[Any] = [-0.1, 1.1, "1", True]
_WRONG: list[dict[str, Any]] = [
    *({"limit": value} for value in _LIMITS),
    *({"offset": value} for value in _OFFSETS),
    *({"filters": {"age": value}} for value in _AGES),
    *({"range": {"record_ts": {"from": value}}} for value in _TIMES),
    *({"fuzzy": {"city": {"query": "abc", "threshold": value}}} for value in _LIKENESSES),
    {"fuzzy": {"city": {"query": "ab", "threshold": 0.5}}},
    {"fuzzy": {"city": {"query": "x" * 1001}}},
    {"nonsense": 1},
    {"role": "admin"},
    {"credits": 0},
    {"price": 0},
    {"user_id": "x"},
    {"settings": {"max_rows_to_read": 0}},
    {"max_credits": 0},
    {"max_credits": -1},
    {"select": ["dedupe_key"]},
    {"select": ["version"]},
    {"sort": "dedupe_key"},
    {"sort": ["city"] * 11},
    {"select": ["city"] * 201},
    {"filters": {"email": {"in": [f"{n}@example.com" for n in range(10_001)]}}},
]


async def test_a_body_that_is_wrong_is_refused_with_where(asker: Account) -> None:
    async with asker.client() as client:
        for body in _WRONG:
            assert all(fault["path"] and fault["error"] for fault in (await refused(client, body))["details"]), body


_BYTES: list[tuple[bytes, int]] = [
    (b'{"filters": {"age": NaN}}', 422),
    (b'{"filters": {"age": Infinity}}', 422),
    (b'{"limit": -Infinity}', 422),
    (b'{"filters": {"age": 1e400}}', 422),
    (b'{"filters": {"age": 9223372036854775808}}', 422),
    (b'{"filters": {"age": ' + b"9" * 5000 + b"}}", 422),
    (b'{"filters": {"city": "\\ud800"}}', 422),
    (b'{"filters": {"\\udfff": 1}}', 422),
    (b'{"filters": {"city": "a\\u0000b"}}', 422),
    (b'{"limit": 1, "limit": 2}', 422),
    (b'{"filters": {"city": "a", "city": "b"}}', 422),
    ('{"limit": 1}'.encode("utf-16"), 400),
    ('{"limit": 1}'.encode("utf-16-le"), 400),
    (b"\xef\xbb\xbf{", 400),
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b'{"filters":' * 80_000, 400),
    (b"", 400),
    (b"[]", 422),
    (b"null", 422),
]


async def test_bytes_that_are_no_request_are_refused(asker: Account) -> None:
    async with asker.client() as client:
        for raw, status in _BYTES:
            answer = await client.post("/v1/query", content=raw, headers={"content-type": "application/json"})
            assert answer.status_code == status, (raw[:80], answer.text)
            assert answer.json()["code"] in {"malformed_json", "invalid_request"}


async def test_a_million_values_are_too_large_a_body(asker: Account) -> None:
    body = {"filters": {"age": list(range(1_000_000))}}
    async with asker.client() as client:
        assert (await refused(client, body, 413))["code"] == "too_large"


async def test_headers_that_claim_something_are_only_headers(asker: Account) -> None:
    headers = {"X-Records-Returned": "0", "X-User-Id": str(new_id()), "X-Credits-Used": "0", "X-Cached": "1"}
    async with asker.client() as client:
        for wait in ("", "x", "../..", "00000000-0000-0000-0000-000000000000'", "a" * 500):
            answer = await client.post("/v1/query", json={}, headers={**headers, "X-Wait-For-Upload": wait})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_header"), wait


async def test_a_kept_answer_is_never_anothers(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> None:
    """Two users ask the same: each has its own charge, receipt and view."""
    body = {"filters": {"email": f"{new_id().hex}@example.com"}}
    seen = []
    for scopes in (["query", "pii"], ["query"], ["query", "pii"]):
        created = await create_user(admin, f"asker-{new_id()}", credits=5, plan="unlimited", scopes=scopes)
        async with open_client(stack, created["api_key"], answered) as client:
            answer = (await client.post("/v1/query", json=body)).json()["metadata"]
            assert (answer["credits_used"], answer["credits_remaining"]) == (1, 4)
            seen.append(answer["query_id"])
            for other in seen[:-1]:
                assert (await client.get(f"/v1/queries/{other}")).status_code == 404
    assert len(set(seen)) == 3


async def test_a_key_with_another_body_is_refused(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> None:
    created = await create_user(admin, f"asker-{new_id()}", credits=5, plan="unlimited")
    headers = {"Idempotency-Key": f"key-{new_id()}"}
    async with open_client(stack, created["api_key"], answered) as client:
        first = await client.post("/v1/query", json={"limit": 1}, headers=headers)
        assert first.status_code == 200
        for other in ({"limit": 2}, {"limit": 1, "format": "csv"}, {"limit": 1, "csv_raw": True}):
            answer = await client.post("/v1/query", json=other, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch"), other
        # The form may be asked for in a header too.
        accept = {**headers, "Accept": "text/csv"}
        assert (await client.post("/v1/query", json={"limit": 1}, headers=accept)).status_code == 422


async def test_a_cursor_or_quote_of_another_maker_is_worth_nothing(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered, asker: Account
) -> None:
    async with asker.client() as client:
        quote = (await client.post("/v1/query/quote", json={})).json()["quote_id"]
        created = await create_user(admin, f"asker-{new_id()}", credits=5, plan="unlimited")
        async with open_client(stack, created["api_key"], answered) as other:
            assert (await refused(other, {"quote_id": quote}))["details"][0]["path"] == "quote_id"
        changed = [quote[:at] + ("A" if quote[at] != "A" else "B") + quote[at + 1 :] for at in range(0, len(quote), 37)]
        for forged in (*changed, quote[:-4], quote + "AAAA", quote.swapcase(), "AAAA", "=" * 40):
            await refused(client, {"quote_id": forged})
            await refused(client, {"cursor": forged})
        await refused(client, {"cursor": quote})  # a seal is for one purpose


async def test_many_at_once_are_refused_by_number_and_not_by_falling_over(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    created = await create_user(admin, f"asker-{new_id()}", credits=100, plan="standard")
    async with open_client(stack, created["api_key"], answered) as client:
        bodies = [{"fuzzy": {"city": {"query": f"{new_id().hex}"}}} for _ in range(60)]
        answers = await asyncio.gather(*(client.post("/v1/query", json=body) for body in bodies))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)
