"""A load is taken back, replaced, and its rejects are tried again, through the API and everything behind it."""

from typing import Any

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until
from support.uploads import select, store


def people(tag: str, age: int, count: int = 20, bad: int = 0) -> bytes:
    lines = [f"{tag}.{number}@example.com,{age}" for number in range(count)]
    lines += [f"bad.{tag}.{number}@example.com,none" for number in range(bad)]
    return ("email,age\n" + "\n".join(lines) + "\n").encode()


async def load(client: httpx.AsyncClient, content: bytes, **params: str) -> str:
    sent = await client.post("/v1/uploads", params={"dataset": "people"} | params, content=content)
    assert sent.status_code == 202, sent.text
    upload_id: str = sent.json()["upload_id"]
    await in_state(client, upload_id, "completed", "completed_with_rejects")
    return upload_id


async def in_state(client: httpx.AsyncClient, upload_id: str, *states: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        status: dict[str, Any] = (await client.get(f"/v1/uploads/{upload_id}")).json()
        return status if status["state"] in states else None

    status = await until(f"upload {upload_id} to be {' or '.join(states)}", look, deadline_s=60)
    assert status is not None
    return status


def ages(stack: Stack, tag: str) -> list[tuple[Any, ...]]:
    query = "SELECT age, count() FROM bigdata.people FINAL WHERE email LIKE {tag:String} GROUP BY age ORDER BY age"
    return select(stack, query, {"tag": f"{tag}.%"})


async def test_a_load_is_undone_and_the_same_file_loads_again(stack: Stack, admin: httpx.AsyncClient) -> None:
    tag = str(new_id())
    await load(admin, people(tag, 1))
    second = await load(admin, people(tag, 2, count=30))
    assert ages(stack, tag) == [(2, 30)]
    answer = await admin.delete(f"/v1/uploads/{second}")
    assert (answer.status_code, answer.json()["state"]) == (202, "undoing")
    await in_state(admin, second, "undone")
    assert ages(stack, tag) == [(1, 20)]
    assert (await admin.delete(f"/v1/uploads/{second}")).status_code == 200
    again = await load(admin, people(tag, 2, count=30))
    assert again != second
    assert ages(stack, tag) == [(2, 30)]
    # Or by its own id, from the object that is kept.
    await admin.delete(f"/v1/uploads/{again}")
    await in_state(admin, again, "undone")
    replayed = await admin.post(f"/v1/uploads/{again}/replay", json={"wait_s": 30})
    assert replayed.status_code == 200, replayed.text
    assert (replayed.json()["state"], replayed.json()["loading_again"]) == ("done", True)
    await in_state(admin, again, "completed")
    assert ages(stack, tag) == [(2, 30)]


async def test_a_file_corrects_the_rejects_of_another(stack: Stack, admin: httpx.AsyncClient) -> None:
    tag = str(new_id())
    first = await load(admin, people(tag, 1, bad=2))
    flights = {"dataset": "flights", "replaces": first}
    refused = await admin.post("/v1/uploads", params=flights, content=people(tag, 2))
    assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "replaces")
    fixed = await load(admin, people(tag, 2, count=3), replaces=first)
    assert (await admin.get(f"/v1/uploads/{first}")).json()["corrected_by"] == fixed
    assert ages(stack, tag) == [(1, 17), (2, 3)]
    replayed = await admin.post(f"/v1/uploads/{first}/replay", json={"wait_s": 30})
    assert replayed.json()["state"] == "failed"
    assert fixed in replayed.json()["error"]


async def test_a_dry_run_says_what_would_pass_and_changes_nothing(admin: httpx.AsyncClient) -> None:
    upload_id = await load(admin, people(str(new_id()), 1, bad=3))
    before = await admin.get(f"/v1/uploads/{upload_id}")
    answer = await admin.post(f"/v1/uploads/{upload_id}/replay", json={"dry_run": True, "wait_s": 30})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["state"], result["rows"]) == ("done", {"total": 3, "passed": 0, "failed": 3})
    assert result["reasons"] == {"integer_syntax": 3}
    assert (await admin.get(result["status_url"])).json()["rows"] == result["rows"]
    after = await admin.get(f"/v1/uploads/{upload_id}")
    same = ("state", "rows", "chunks", "finished_at")
    assert [before.json()[name] for name in same] == [after.json()[name] for name in same]
    assert len((await admin.get(f"/v1/uploads/{upload_id}/rejects")).text.splitlines()) == 3


@pytest.mark.parametrize(("scopes", "seen"), [(["ingest"], False), (["ingest", "pii"], True)])
async def test_rejects_are_masked_without_the_scope_for_personal_data(
    stack: Stack,
    admin: httpx.AsyncClient,
    answered: Answered,
    scopes: list[str],
    seen: bool,  # noqa: FBT001 - expected
) -> None:
    created = await create_user(admin, f"sender-{new_id()}", credits=1, scopes=scopes)
    async with open_client(stack, created["api_key"], answered) as sender:
        tag = str(new_id())
        upload_id = await load(sender, people(tag, 1, bad=1))
        rejects = (await sender.get(f"/v1/uploads/{upload_id}/rejects")).text
        assert (f"bad.{tag}" in rejects) is seen
        assert "integer_syntax" in rejects
        assert ("masked" in rejects) is not seen
    other = await create_user(admin, f"other-{new_id()}", credits=1, scopes=["ingest"])
    async with open_client(stack, other["api_key"], answered) as stranger:
        for answer in (
            await stranger.delete(f"/v1/uploads/{upload_id}"),
            await stranger.post(f"/v1/uploads/{upload_id}/replay"),
            await stranger.get(f"/v1/uploads/{upload_id}/rejects"),
            await stranger.delete(f"/v1/uploads/{new_id()}"),
        ):
            assert answer.status_code == 404, answer.text


async def test_what_is_not_loaded_yet_is_busy(stack: Stack, admin: httpx.AsyncClient) -> None:
    tag = str(new_id())
    waiting = store(stack, people(tag, 1), "people").upload_id  # nobody is told yet
    replacing = {"dataset": "people", "replaces": str(waiting)}
    for answer in (
        await admin.delete(f"/v1/uploads/{waiting}"),
        await admin.post(f"/v1/uploads/{waiting}/replay"),
        await admin.post("/v1/uploads", params=replacing, content=people(tag, 2)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "upload_busy"), answer.text


async def test_a_person_is_erased_and_the_log_has_only_a_hash(stack: Stack, admin: httpx.AsyncClient) -> None:
    tag = str(new_id())
    upload_id = await load(admin, people(tag, 1, count=2, bad=1))
    refused = await admin.post("/v1/admin/erasures", json={"dataset": "people", "column": "age", "value": "1"})
    assert (refused.status_code, refused.json()["details"][0]["path"]) == (422, "column")
    ask = {"dataset": "people", "column": "email", "value": f" {tag}.0@EXAMPLE.com", "wait_s": 30}
    answer = await admin.post("/v1/admin/erasures", json=ask)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["state"], result["rows"]) == ("done", 2)  # in the history and in the current table
    assert ages(stack, tag) == [(1, 1)]
    assert (await admin.get(result["status_url"])).json()["sha256"] == result["sha256"]
    bad = {"dataset": "people", "column": "email", "value": f"bad.{tag}.0@example.com", "wait_s": 30}
    assert (await admin.post("/v1/admin/erasures", json=bad)).json()["rejects"] == 1
    assert tag not in (await admin.get(f"/v1/uploads/{upload_id}/rejects")).text

    async def logged() -> list[dict[str, Any]]:
        target = f"sha256-{result['sha256'][:32]}-{result['sha256'][32:]}"
        entries: list[dict[str, Any]] = (await admin.get("/v1/admin/logs", params={"target": target})).json()
        return entries

    (entry,) = await until("the erasure to be in the log", logged, deadline_s=30)
    assert tag not in str(entry)
