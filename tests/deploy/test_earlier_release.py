"""Releases N and N+1 run side by side: what release 1 sent is served today, and it can read what is sent today.

release_1/ was recorded from that release and is never written again: its events as they lie in Kafka, what its
consumers require of an event, and requests with the status and the shape of their answers.
"""

import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from common import events
from common.ids import new_id
from common.topics import AUDIT_REQUESTS
from devstack.stack import Stack
from support import uploads
from support.client import Answered, open_client
from support.polling import until
from support.repository import ROOT

RELEASE = ROOT / "tests" / "deploy" / "release_1"
EVENTS: list[dict[str, Any]] = [
    json.loads(line) for line in (RELEASE / "events.jsonl").read_text(encoding="utf-8").splitlines()
]
READERS: dict[str, dict[str, Any]] = json.loads((RELEASE / "readers.json").read_text(encoding="utf-8"))
REQUESTS: list[dict[str, Any]] = json.loads((RELEASE / "requests.json").read_text(encoding="utf-8"))
KINDS: dict[str, type | tuple[type, ...]] = {"string": str, "number": (int, float), "boolean": bool}


@pytest.mark.parametrize("recorded", EVENTS, ids=lambda one: one["model"])
def test_an_event_of_the_earlier_release_is_read_with_nothing_lost(recorded: dict[str, Any]) -> None:
    read = getattr(events, recorded["model"]).model_validate_json(json.dumps(recorded["value"]))
    today = json.loads(read.encoded())
    assert {name: today[name] for name in recorded["value"]} == recorded["value"]


@pytest.mark.parametrize("recorded", EVENTS, ids=lambda one: one["model"])
def test_the_earlier_release_can_read_an_event_of_today(recorded: dict[str, Any]) -> None:
    """With every field of today's that it never heard of."""
    model = getattr(events, recorded["model"])
    written = json.loads(model.model_validate(recorded["value"]).encoded())
    assert written.keys() >= set(model.model_fields)
    faults = [fault.message for fault in Draft202012Validator(READERS[recorded["model"]]).iter_errors(written)]
    assert not faults


async def test_requests_of_the_earlier_release_are_answered_as_it_answered_them(
    stack: Stack, answered: Answered
) -> None:
    known = {"tag": f"r1-{new_id()}"}
    for step in REQUESTS:
        keys = {"admin": stack.status().admin_key, "user": known.get("user_key"), "nobody": None}
        async with open_client(stack, keys[step["as"]], answered) as client:
            answer = await _send(client, step, known)
        document = answer.json()
        said = f"{step['method']} {step['path']}: {answer.text}"
        assert answer.status_code == step["status"], said
        assert not (missing := _missing(step["shape"], document)), f"{missing} in {said}"
        known |= {name: _at(document, path) for name, path in step.get("keep", {}).items()}


async def test_a_request_that_the_earlier_release_logged_is_in_the_log(stack: Stack) -> None:
    """Its gateway's spool may be sent, and its events consumed, after everything else is of today."""
    event_id = str(new_id())
    (logged, *_) = [one["value"] for one in EVENTS if one["model"] == "RequestFinished"]
    endpoint = f"/release-1/{event_id}"
    today = events.RequestFinished(endpoint="", method="GET", status=200, duration_ms=0).model_dump(mode="json")
    nobody = {"user_id": None, "username": None, "key_id": None, "hold_id": None, "credits_used_mc": 0}
    moved = logged | nobody | {"event_id": event_id, "occurred_at": today["occurred_at"], "endpoint": endpoint}
    await uploads.publish(stack, AUDIT_REQUESTS, json.dumps(moved).encode())
    async with httpx.AsyncClient(base_url=stack.url(), headers={"x-api-key": stack.status().admin_key}) as admin:

        async def there() -> bool:
            found = await admin.get("/v1/admin/logs", params={"endpoint": endpoint})
            return len(found.json()) == 1

        await until("the earlier release's request in the log", there, deadline_s=60)


async def _send(client: httpx.AsyncClient, step: dict[str, Any], known: dict[str, str]) -> httpx.Response:
    given = {name: step[name] for name in ("params", "headers", "json", "content") if name in step}
    request = json.loads(_filled(json.dumps(given, ensure_ascii=False), known))
    path = _filled(step["path"], known)

    async def once() -> httpx.Response | None:
        answer = await client.request(step["method"], path, **request)
        busy = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE  # and says so: clients of every release repeat
        waits = "until" in step and answer.is_success and not answer.json()[step["until"]]
        return None if busy or waits else answer

    answer = await until(f"an answer of {path}", once, deadline_s=60)
    assert answer is not None
    return answer


def _filled(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace("{" + name + "}", value)
    return text


def _at(document: Any, path: str) -> str:
    for name in path.split("."):
        document = document[name]
    return str(document)


def _missing(shape: Any, found: Any, path: str = "") -> list[str]:
    """What a client of the earlier release would look for in vain. More than it knows does it no harm."""
    if isinstance(shape, dict):
        if not isinstance(found, dict):
            return [path]
        return [
            fault
            for name, inner in shape.items()
            for fault in (_missing(inner, found[name], f"{path}.{name}") if name in found else [f"{path}.{name}"])
        ]
    if isinstance(shape, list):
        if not isinstance(found, list):
            return [path]
        return [fault for inner in shape for one in found[:1] for fault in _missing(inner, one, f"{path}[]")]
    # null was the absence of something that may well be there now.
    return [] if shape == "null" or found is None or isinstance(found, KINDS[shape]) else [path]
