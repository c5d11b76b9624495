"""What admins do to one user, with JSON and with forms, and what the roles do not let them do."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until


@dataclass
class Person:
    id: str
    username: str
    key: str
    stack: Stack
    answered: Answered

    @property
    def admin_path(self) -> str:
        return f"/v1/admin/user/{self.id}"

    def client(self, key: str | None = None) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return open_client(self.stack, key or self.key, self.answered)

    async def status(self, key: str | None = None) -> int:
        async with self.client(key) as http:
            return (await http.get("/v1/me")).status_code


async def _person(stack: Stack, admin: httpx.AsyncClient, answered: Answered, **fields: Any) -> Person:
    created = await create_user(admin, f"person-{new_id()}", plan="unlimited", **fields)
    return Person(created["user"]["id"], created["user"]["username"], created["api_key"], stack, answered)


@pytest_asyncio.fixture
async def person(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> Person:
    return await _person(stack, admin, answered)


@pytest_asyncio.fixture
async def plain_admin(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    """An admin who is no super admin."""
    someone = await _person(stack, admin, answered, role="admin")
    async with someone.client() as http:
        yield http


async def test_a_regenerated_key_replaces_every_other(person: Person, admin: httpx.AsyncClient) -> None:
    async with person.client() as http:
        further = (await http.post("/v1/keys", json={"name": "further"})).json()["api_key"]
    answer = await admin.post(f"{person.admin_path}/regenerate-key")
    assert answer.status_code == 200
    assert [await person.status(key) for key in (person.key, further, answer.json()["api_key"])] == [401, 401, 200]


@pytest.mark.parametrize("how", ["json", "data"])
async def test_old_keys_live_on_for_the_grace_period(person: Person, admin: httpx.AsyncClient, how: str) -> None:
    body: dict[str, Any] = {how: {"grace_seconds": 600}}
    answer = await admin.post(f"{person.admin_path}/regenerate-key", **body)
    assert [await person.status(key) for key in (person.key, answer.json()["api_key"])] == [200, 200]


async def test_a_regenerated_key_may_be_given_scopes_that_users_cannot_take(
    person: Person, admin: httpx.AsyncClient
) -> None:
    path = f"{person.admin_path}/regenerate-key"
    key = (await admin.post(path, json={"scopes": ["read", "ingest"]})).json()["api_key"]
    async with person.client(key) as http:
        assert (await http.get("/v1/me")).json()["scopes"] == ["ingest", "read"]
    refused = await admin.post(path, json={"scopes": ["admin"]})
    assert (refused.status_code, refused.json()["details"]) == (403, {"scope": "admin"})


@pytest.mark.parametrize("how", ["json", "data"])
async def test_a_role_is_changed_and_counts_at_once(person: Person, admin: httpx.AsyncClient, how: str) -> None:
    body: dict[str, Any] = {how: {"role": "viewer"}}
    async with person.client() as http:
        assert (await http.get("/v1/admin/users")).status_code == 403
        answer = await admin.post(f"{person.admin_path}/change-role", **body)
        assert (answer.status_code, answer.json()["role"]) == (200, "viewer")
        assert (await http.get("/v1/admin/users")).status_code == 200


@pytest.mark.parametrize("how", ["json", "data"])
async def test_a_disabled_user_is_unknown_until_active_again(
    person: Person, admin: httpx.AsyncClient, how: str
) -> None:
    assert (await admin.post(f"{person.admin_path}/disable")).json()["status"] == "disabled"
    assert await person.status() == 401
    body: dict[str, Any] = {how: {"status": "active"}}
    assert (await admin.post(f"{person.admin_path}/status", **body)).json()["status"] == "active"
    assert await person.status() == 200


@pytest.mark.parametrize("how", ["json", "data"])
async def test_credits_are_set_by_an_adjustment_with_its_reason(
    person: Person, admin: httpx.AsyncClient, how: str
) -> None:
    body: dict[str, Any] = {how: {"credits": 7.5, "reason": "a goodwill gesture"}}
    key = {"Idempotency-Key": str(new_id())}
    for _ in range(2):
        answer = await admin.post(f"{person.admin_path}/update-credits", headers=key, **body)
        assert (answer.status_code, answer.json()["balance"]) == (200, 7.5)
    async with person.client() as http:
        newest, first = (await http.get("/v1/credits/statement")).json()
    assert (newest["kind"], newest["amount"], newest["reason"]) == ("adjustment", -92.5, "a goodwill gesture")
    assert first["kind"] == "grant"


async def test_what_is_no_credits_leaves_the_ledger_alone(person: Person, admin: httpx.AsyncClient) -> None:
    for fields in ({"credits": "5"}, {"credits": -1}, {"credits": True}, {"credits": 0.0001}, {"credits": 1e18}, {}):
        assert (await admin.post(f"{person.admin_path}/update-credits", json=fields)).status_code == 422
    for form in ({"credits": "many"}, {"credits": "-1"}, {"credits": ""}, {"credits": "1", "plan": "bulk"}):
        assert (await admin.post(f"{person.admin_path}/update-credits", data=form)).status_code == 422
    twice = b"credits=1&credits=2"
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await admin.post(f"{person.admin_path}/update-credits", content=twice, headers=form)).status_code == 422
    other = {"content-type": "multipart/form-data; boundary=x"}
    assert (await admin.post(f"{person.admin_path}/update-credits", content=b"--x", headers=other)).status_code == 415
    async with person.client() as http:
        assert (await http.get("/v1/credits")).json()["balance"] == 100


async def test_a_deleted_user_is_gone_for_good_and_its_log_stays(person: Person, admin: httpx.AsyncClient) -> None:
    assert await person.status() == 200
    assert (await admin.delete(person.admin_path)).status_code == 200
    assert await person.status() == 401
    shown = (await admin.get(person.admin_path)).json()
    assert (shown["username"], shown["status"], shown["credits"]) == (f"deleted-{person.id}", "disabled", 100)
    assert all(key["revoked_at"] and not key["name"] for key in shown["keys"])
    for route, body in (("status", {"status": "active"}), ("regenerate-key", {}), ("change-role", {"role": "admin"})):
        assert (await admin.post(f"{person.admin_path}/{route}", json=body)).status_code == 404
    assert (await admin.delete(person.admin_path)).status_code == 404

    async def logged() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await admin.get(f"{person.admin_path}/logs")).json()
        return rows

    rows = await until("the log of the deleted user", logged, deadline_s=30)
    assert {row["username"] for row in rows} == {f"deleted-{person.id}"}
    # The name is free again, for somebody else.
    assert (await create_user(admin, person.username))["user"]["id"] != person.id


async def test_every_action_is_in_the_log_with_actor_and_target(person: Person, admin: httpx.AsyncClient) -> None:
    done = {
        "regenerate-key": await admin.post(f"{person.admin_path}/regenerate-key"),
        "change-role": await admin.post(f"{person.admin_path}/change-role", json={"role": "admin"}),
        "change-status": await admin.post(f"{person.admin_path}/status", json={"status": "active"}),
        "update-credits": await admin.post(f"{person.admin_path}/update-credits", json={"credits": 1}),
        "disable": await admin.post(f"{person.admin_path}/disable", json={}),
        "delete-user": await admin.delete(person.admin_path),
    }
    assert {answer.status_code for answer in done.values()} == {200}
    actor = (await admin.get("/v1/me")).json()["id"]
    ids = {answer.headers["x-request-id"]: action for action, answer in done.items()}

    async def logged() -> dict[str, str]:
        rows = (await admin.get("/v1/admin/logs", params={"user_id": actor, "limit": 200})).json()
        found = {ids[row["id"]]: row["target"] for row in rows if row["id"] in ids}
        return found if len(found) == len(ids) else {}

    assert set((await until("the actions in the log", logged, deadline_s=30)).values()) == {person.id}


async def test_nobody_changes_their_own_role_or_ends_themselves(
    plain_admin: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    for http in (plain_admin, admin):
        own = f"/v1/admin/user/{(await http.get('/v1/me')).json()['id']}"
        for answer in (
            await http.post(f"{own}/change-role", json={"role": "user"}),
            await http.post(f"{own}/status", json={"status": "disabled"}),
            await http.post(f"{own}/disable"),
            await http.delete(own),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_an_admin_cannot_touch_a_super_admin(
    stack: Stack, admin: httpx.AsyncClient, plain_admin: httpx.AsyncClient, answered: Answered
) -> None:
    chief = await _person(stack, admin, answered, role="super_admin")
    for route, body in (
        ("regenerate-key", {}),
        ("change-role", {"role": "user"}),
        ("status", {"status": "disabled"}),
        ("disable", {}),
        ("update-credits", {"credits": 0}),
    ):
        refused = await plain_admin.post(f"{chief.admin_path}/{route}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), route
    granted = await plain_admin.post("/v1/admin/add-credits", json={"user_id": chief.id, "credits": 1})
    assert (granted.status_code, granted.json()["code"]) == (403, "forbidden")
    assert (await plain_admin.delete(chief.admin_path)).status_code == 403
    assert await chief.status() == 200
    made = await plain_admin.post(f"{chief.admin_path}/change-role", json={"role": "super_admin"})
    assert made.status_code == 403
    # Only a super admin removes another one.
    assert (await admin.delete(chief.admin_path)).status_code == 200
    assert await chief.status() == 401


async def test_a_dataset_is_granted_and_taken_back(person: Person, admin: httpx.AsyncClient) -> None:
    path = f"{person.admin_path}/datasets"
    assert (await admin.put(f"{path}/people")).json() == ["people"]
    assert (await admin.put(f"{path}/people")).json() == ["people"]
    assert (await admin.get(path)).json() == ["people"]
    assert (await admin.delete(f"{path}/people")).json() == []
    assert (await admin.put(f"{path}/nothing")).status_code == 404


async def test_a_key_is_verified_and_shown_masked(admin: httpx.AsyncClient, stack: Stack) -> None:
    me = (await admin.get("/v1/me")).json()
    verified = await admin.post("/v1/admin/verify-key")
    assert verified.json() == {"valid": True, "role": "super_admin", "id": me["id"], "username": me["username"]}
    masked = (await admin.get("/v1/admin/api-key")).json()
    assert masked["id"] == me["key_id"]
    assert stack.site.secrets.admin_key not in masked["api_key"]


async def test_a_viewer_may_get_and_nothing_else(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> None:
    viewer = await _person(stack, admin, answered, role="viewer")
    async with viewer.client() as http:
        document = (await http.get("/openapi.json")).json()
        walked = 0
        for path, operations in document["paths"].items():
            if not path.startswith("/v1/admin/"):
                continue
            url = re.sub(r"\{\w+\}", str(UUID(int=1)), path)
            for method in set(operations) - {"get"}:
                answer = await http.request(method, url)
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), f"{method} {path}"
                walked += 1
        assert walked >= 11
        for path in ("/v1/admin/users", "/v1/admin/stats", "/v1/admin/logs", f"{viewer.admin_path}/datasets"):
            assert (await http.get(path)).status_code == 200
