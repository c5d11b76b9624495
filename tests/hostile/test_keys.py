"""Hostile keys and headers. Whatever is sent: no fault of ours, no charge, one row in the log, the same process alive.

A key in the wrong place: journeys/test_nothing_secret_is_kept.py. Who may do what: journeys/test_admin_users.py.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.accounts import Account, open_account
from support.client import Answered, create_user, open_client
from support.log import entry_of
from support.polling import until
from support.stack import further_copy

_BAD_KEYS_MAX = 100


@pytest_asyncio.fixture
async def victim(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Account]:
    """Its credits are counted before and after, and the gateway must not have been started again."""
    started = stack.status().to_json()["processes"]["gateway"]["pid"]
    async with open_account(stack, admin, answered) as account:
        yield account
        await account.settled_at(10)
        assert await account.charges() == 0
    assert stack.status().to_json()["processes"]["gateway"]["pid"] == started
    assert (await admin.get("/v1/health")).json()["status"] == "ok"


@pytest_asyncio.fixture
async def stranger(stack: Stack, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(stack, None, answered) as http:
        yield http


def _keys_like(key: str) -> dict[str, bytes]:
    prefix, secret = key[:11], key[12:]
    return {
        "its hash": hashlib.sha256(key.encode()).hexdigest().encode(),
        "its prefix": prefix.encode(),
        "upper case": key.upper().encode(),
        "lower case": key.lower().encode(),
        "swapped case": key.swapcase().encode(),
        "with a NUL's escape": key.encode() + b"%00",
        "twice": key.encode() * 2,
        "two in one": key.encode() + b", " + key.encode(),
        "quoted": b'"' + key.encode() + b'"',
        "a blank inside": key.replace("_", " _", 1).encode(),
        "right prefix, wrong secret": f"{prefix}_{secret[::-1]}".encode(),
        "wrong prefix, right secret": f"bd_00000000_{secret}".encode(),
        "wildcards": b"%",
        "a statement": b"' OR '1'='1",
        "not ascii": "schlüssel".encode(),
        "not utf-8": b"\xff\xfe\xfd",
        "60 kilobytes": b"x" * 60_000,
    }


async def test_what_only_resembles_a_key_is_no_key(victim: Account, stranger: httpx.AsyncClient) -> None:
    for number, (kind, key) in enumerate(_keys_like(victim.key).items()):
        # In turns: each is a guess, and an address that guesses a hundred times in a minute is slowed down.
        header = {b"x-api-key": key} if number % 2 else {b"authorization": b"Bearer " + key}
        answer = await stranger.get("/v1/me", headers=httpx.Headers(header))
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key"), kind
        assert answer.json()["error"] == "This API key is not valid"
        assert answer.json()["details"] == {}


async def test_blanks_are_no_key_and_around_one_do_no_harm(victim: Account, stack: Stack) -> None:
    for blank in (b"", b"   ", b"\t", b" \t "):
        assert b'"missing_api_key"' in await _raw(stack, b"x-api-key:" + blank)
    assert str(victim.user_id).encode() in await _raw(stack, b"x-api-key: \t " + victim.key.encode() + b"  ")


async def _raw(stack: Stack, header: bytes) -> bytes:
    """The answer to a request that an HTTP client would refuse to send."""
    address = httpx.URL(stack.url())
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /v1/me HTTP/1.1\r\nhost: test\r\nconnection: close\r\n" + header + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


async def test_a_key_of_a_megabyte_is_refused(victim: Account, stack: Stack) -> None:
    # Not remembered for the log: a server may refuse such headers before anything of ours sees them.
    async with httpx.AsyncClient(base_url=stack.url()) as http:
        try:
            answer = await http.get("/v1/me", headers={"x-api-key": "x" * 1_000_000})
        except httpx.TransportError:
            return
        assert answer.status_code in {400, 401, 431}
    assert victim.key


async def test_two_keys_are_a_bad_header_even_if_both_are_good(victim: Account, stranger: httpx.AsyncClient) -> None:
    key = victim.key.encode()
    for headers in (
        [(b"x-api-key", key), (b"x-api-key", key)],
        [(b"x-api-key", key), (b"authorization", b"Bearer " + key)],
        [(b"x-api-key", key), (b"x-api-key", b"other")],
    ):
        answer = await stranger.get("/v1/me", headers=httpx.Headers(headers))
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_header")


async def test_dead_keys_look_like_keys_that_never_were(
    victim: Account, admin: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    async def answer_to(key: str) -> dict[str, Any]:
        answer = await stranger.get("/v1/me", headers={"x-api-key": key})
        assert answer.status_code == 401
        return {name: value for name, value in answer.json().items() if name != "request_id"}

    async with victim.client() as http:
        rotated = (await http.post("/v1/keys", json={"name": "rotated"})).json()
        await http.post(f"/v1/keys/{rotated['id']}/rotate")
        revoked = (await http.post("/v1/keys", json={"name": "revoked"})).json()
        await http.delete(f"/v1/keys/{revoked['id']}")
    disabled = await create_user(admin, f"disabled-{new_id()}")
    await admin.post(f"/v1/admin/user/{disabled['user']['id']}/disable")
    keys = [rotated["api_key"], revoked["api_key"], disabled["api_key"], "bd_00000000_never"]
    answers = [await answer_to(key) for key in keys]
    assert answers == [answers[-1]] * 4


async def test_another_users_objects_look_like_none(
    victim: Account, admin: httpx.AsyncClient, payer: httpx.AsyncClient
) -> None:
    query = (await payer.post("/v1/query", json={"limit": 1})).json()["metadata"]["query_id"]
    key = (await payer.post("/v1/keys", json={"name": "theirs"})).json()["id"]
    content = f"email\n{new_id()}@example.com\n".encode()
    upload = (await admin.post("/v1/uploads?dataset=people&filename=a.csv", content=content)).json()["upload_id"]
    ingesting = (
        await admin.post(
            f"/v1/admin/user/{victim.user_id}/regenerate-key", json={"scopes": ["query", "read", "ingest"]}
        )
    ).json()["api_key"]
    async with open_client(victim.stack, ingesting, victim.answered) as http:
        for method, path in (
            ("GET", f"/v1/queries/{query}"),
            ("DELETE", f"/v1/keys/{key}"),
            ("POST", f"/v1/keys/{key}/rotate"),
            ("GET", f"/v1/uploads/{upload}"),
            ("GET", f"/v1/uploads/{upload}/rejects"),
        ):
            answers = [
                await http.request(method, one) for one in (path, path.replace(path.split("/")[3], str(new_id())))
            ]
            assert [answer.status_code for answer in answers] == [404, 404], path
            first, second = (answer.json() for answer in answers)
            assert {**first, "request_id": ""} == {**second, "request_id": ""}


async def test_fields_that_nobody_may_set_are_refused(victim: Account, admin: httpx.AsyncClient) -> None:
    wanted: list[tuple[str, dict[str, Any]]]
    async with victim.client() as http:
        wanted = [
            ("/v1/query", {"limit": 1, "cost": 0}),
            ("/v1/query", {"limit": 1, "credits": 0}),
            ("/v1/keys", {"name": "mine", "role": "admin"}),
            ("/v1/keys", {"name": "mine", "user_id": str(new_id())}),
        ]
        for path, body in wanted:
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert answer.json()["details"][0]["path"] in body
    wanted = [
        ("/v1/admin/create-user", {"username": f"x-{new_id()}", "status": "active"}),
        ("/v1/admin/add-credits", {"user_id": str(victim.user_id), "credits": 1, "actor": "somebody"}),
        (f"/v1/admin/user/{victim.user_id}/change-role", {"role": "user", "credits": 5}),
        (f"/v1/admin/user/{victim.user_id}/update-credits", {"credits": 1, "role": "admin"}),
    ]
    for path, body in wanted:
        assert (await admin.post(path, json=body)).status_code == 422, path


async def test_headers_that_claim_something_have_no_effect(
    payer: httpx.AsyncClient, admin: httpx.AsyncClient, victim: Account
) -> None:
    claims = {
        "X-User-Id": str(victim.user_id),
        "X-Role": "super_admin",
        "X-Scopes": "admin",
        "X-Records-Returned": "0",
        "X-Credits-Used": "0",
        "X-Request-Id": str(victim.user_id),
        "X-Forwarded-For": "198.51.100.7",
        "X-Real-Ip": "198.51.100.7",
        "Forwarded": "for=198.51.100.7",
        "X-Original-Url": "/v1/admin/users",
        "X-Http-Method-Override": "DELETE",
    }
    me = (await payer.get("/v1/me")).json()
    assert (await payer.get("/v1/me", headers=claims)).json() == me
    assert (await payer.get("/v1/admin/users", headers=claims)).status_code == 403
    asked = await payer.post("/v1/query", json={"limit": 1}, headers=claims)
    assert asked.json()["metadata"]["credits_used"] == 1
    assert asked.headers["x-request-id"] != str(victim.user_id)
    entry = await entry_of(admin, asked)
    assert (entry["user_id"], entry["ip"], entry["method"]) == (me["id"], "127.0.0.1", "POST")


async def test_an_address_that_guesses_is_slowed_down_and_nobody_else(
    stack: Stack, admin: httpx.AsyncClient, victim: Account, answered: Answered
) -> None:
    """Behind a proxy that is trusted, so that there are addresses to tell apart; on a gateway of its own."""
    guesser, neighbour = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "6.6.6.6, 203.0.113.8"}
    async with (
        further_copy(stack, "gateway", index=4, env={"TRUSTED_PROXIES": "127.0.0.1"}) as copy,
        open_client(stack, None, answered, gateway=copy) as http,
    ):

        async def guess(n: int) -> int:
            return (await http.get("/v1/me", headers={"x-api-key": f"bd_guess_{n}", **guesser})).status_code

        seen = [status for n in range(0, 1000, 50) for status in await asyncio.gather(*map(guess, range(n, n + 50)))]
        # A hundred at once, then as many as a minute allows again.
        assert set(seen) == {401, 429}
        assert seen.count(401) >= _BAD_KEYS_MAX
        assert seen.count(429) > 1000 / 2

        async def slowed() -> httpx.Response | None:
            answer = await http.get("/v1/me", headers={"x-api-key": "bd_guess", **guesser})
            return answer if answer.status_code == 429 else None

        refused = await until("the guesser to be slowed down", slowed, deadline_s=30)
        assert refused is not None
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["retry-after"]) >= 1
        # Others with a wrong key hear so, and whoever has a key is let in, from that very address too.
        wrong = await http.get("/v1/me", headers={"x-api-key": "bd_wrong", **neighbour})
        assert wrong.status_code == 401
        for address in (guesser, neighbour):
            known = await http.get("/v1/me", headers={"x-api-key": victim.key, **address})
            assert known.status_code == 200
        entry = await entry_of(admin, known)
    # The proxy's word counts, what the client put in front of it does not.
    assert entry["ip"] == "203.0.113.8"
