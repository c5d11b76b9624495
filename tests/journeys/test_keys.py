"""A user's own keys: made, limited, renewed, revoked, and never more powerful than the key that made them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until


@dataclass
class Owner:
    http: httpx.AsyncClient
    stack: Stack
    answered: Answered

    def using(self, key: str) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return open_client(self.stack, key, self.answered)

    async def status_of(self, key: str) -> int:
        async with self.using(key) as client:
            return (await client.get("/v1/me")).status_code

    async def make(self, **ask: Any) -> dict[str, Any]:
        answer = await self.http.post("/v1/keys", json={"name": "another", **ask})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest_asyncio.fixture
async def owner(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Owner]:
    created = await create_user(admin, f"owner-{new_id()}", plan="unlimited")
    async with open_client(stack, created["api_key"], answered) as http:
        yield Owner(http, stack, answered)


async def test_a_key_is_shown_once_and_listed_by_its_prefix(owner: Owner) -> None:
    made = await owner.make(name="nightly export", scopes=["query"])
    assert made["api_key"].startswith(made["prefix"] + "_")
    listed = (await owner.http.get("/v1/keys")).json()
    assert [(key["name"], key["scopes"]) for key in listed] == [
        ("first", ["query", "read"]),
        ("nightly export", ["query"]),
    ]
    assert made["api_key"] not in str(listed)
    assert set(listed[1]) == set(made) - {"api_key"}


async def test_a_key_has_its_scopes_and_no_others(owner: Owner) -> None:
    made = await owner.make(scopes=["query"])
    async with owner.using(made["api_key"]) as client:
        refused = await client.get("/v1/me")
        assert (refused.status_code, refused.json()["details"]) == (403, {"scope": "read"})
        assert (await client.post("/v1/query", json={"limit": 1})).status_code == 200


@pytest.mark.parametrize("scope", ["ingest", "pii", "admin"])
async def test_a_key_cannot_make_one_that_may_do_more(owner: Owner, scope: str) -> None:
    refused = await owner.http.post("/v1/keys", json={"name": "more", "scopes": [scope]})
    assert (refused.status_code, refused.json()["details"]) == (403, {"scope": scope})


async def test_a_key_cannot_touch_one_that_may_do_more(owner: Owner) -> None:
    reader = await owner.make(scopes=["read"])
    first = (await owner.http.get("/v1/keys")).json()[0]
    async with owner.using(reader["api_key"]) as client:
        path = f"/v1/keys/{first['id']}"
        for answer in (await client.delete(path), await client.post(f"{path}/rotate")):
            assert (answer.status_code, answer.json()["details"]) == (403, {"scope": "query"})
        own = await client.post("/v1/keys", json={"name": "like me"})
        assert own.json()["scopes"] == ["read"]


async def test_a_revoked_key_is_refused_at_once(owner: Owner) -> None:
    made = await owner.make()
    assert await owner.status_of(made["api_key"]) == 200
    revoked = await owner.http.delete(f"/v1/keys/{made['id']}")
    assert (revoked.status_code, revoked.json()["id"]) == (200, made["id"])
    assert await owner.status_of(made["api_key"]) == 401
    assert (await owner.http.delete(f"/v1/keys/{made['id']}")).status_code == 404


async def test_a_rotated_key_works_until_its_grace_period_ends(owner: Owner) -> None:
    old = await owner.make(name="app", scopes=["read"], requests_per_minute=1000)
    renewed = (await owner.http.post(f"/v1/keys/{old['id']}/rotate", json={"grace_seconds": 600})).json()
    assert (renewed["name"], renewed["scopes"], renewed["requests_per_minute"]) == ("app", ["read"], 1000)
    assert renewed["replaced"]["id"] == old["id"]
    assert [await owner.status_of(key["api_key"]) for key in (old, renewed)] == [200, 200]
    twice = await owner.http.post(f"/v1/keys/{old['id']}/rotate")
    assert twice.status_code == 404
    await owner.http.delete(f"/v1/keys/{old['id']}")
    assert [await owner.status_of(key["api_key"]) for key in (old, renewed)] == [401, 200]


async def test_a_key_rotated_without_grace_dies_at_once(owner: Owner) -> None:
    old = await owner.make()
    renewed = await owner.http.post(f"/v1/keys/{old['id']}/rotate")
    assert [await owner.status_of(key) for key in (old["api_key"], renewed.json()["api_key"])] == [401, 200]


async def test_a_key_expires_when_it_says_and_is_not_kept_longer(owner: Owner) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    made = await owner.make(expires_at=soon.isoformat())

    async def refused() -> bool:
        return await owner.status_of(made["api_key"]) == 401

    await until("the key to expire", refused, deadline_s=30)


async def test_what_a_key_cannot_be_is_refused_by_name(owner: Owner) -> None:
    for ask, path in (
        ({"name": ""}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes.0"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": 5}, "expires_at"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "role": "admin"}, "role"),
    ):
        refused = await owner.http.post("/v1/keys", json=ask)
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, path)
    key = await owner.make()
    too_long = await owner.http.post(f"/v1/keys/{key['id']}/rotate", json={"grace_seconds": 10**9})
    assert too_long.status_code == 422


async def test_a_user_has_a_bounded_number_of_keys(owner: Owner) -> None:
    for _ in range(19):
        last = await owner.make()
    assert (await owner.http.post("/v1/keys", json={"name": "one more"})).status_code == 422
    await owner.http.delete(f"/v1/keys/{last['id']}")
    await owner.make()


async def test_another_users_key_looks_like_none(owner: Owner, payer: httpx.AsyncClient) -> None:
    made = await owner.make()
    for path in (f"/v1/keys/{made['id']}", f"/v1/keys/{new_id()}"):
        assert (await payer.delete(path)).status_code == 404
        assert (await payer.post(f"{path}/rotate")).status_code == 404
    assert await owner.status_of(made["api_key"]) == 200


async def test_last_use_is_noted(admin: httpx.AsyncClient) -> None:
    """Every fifteen seconds, so this looks at a key that is used all the time."""

    async def noted() -> bool:
        return any(key["last_used_at"] for key in (await admin.get("/v1/keys")).json())

    await until("the use of the key to be noted", noted, deadline_s=60, every_s=0.5)
