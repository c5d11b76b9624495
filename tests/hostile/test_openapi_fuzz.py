"""Every operation of /openapi.json with inputs that nobody thought of: never a fault of ours, never an answer that is
not documented. The seed is fixed; `make faults` looks much further.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from common.ids import new_id
from devstack.stack import Stack
from support.client import create_user

_SEED = 20_261_122
_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# They end when the client leaves.
_ENDLESS = ("/tail", "/events")
_ANSWER_S = 30
Operation: TypeAlias = schemathesis.schemas.APIOperation[Any, Any, Any, Any]
AnyCase: TypeAlias = schemathesis.Case[Any]


@pytest_asyncio.fixture
async def key(admin: httpx.AsyncClient) -> AsyncIterator[str]:
    """An admin's, so that routes are reached and not only refused; deleted afterwards with all that was made of it."""
    created = await create_user(admin, f"fuzz-{new_id()}", role="admin", credits=10_000, plan="unlimited")
    yield created["api_key"]
    await admin.delete(f"/v1/admin/user/{created['user']['id']}")


async def test_no_operation_answers_what_is_not_documented(stack: Stack, key: str) -> None:
    await asyncio.to_thread(_fuzz, stack.url(), key, 5)


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_no_operation_answers_what_is_not_documented_however_often(stack: Stack, key: str) -> None:
    await asyncio.to_thread(_fuzz, stack.url(), key, 150)


def _fuzz(url: str, key: str, examples: int) -> None:
    schema = schemathesis.openapi.from_dict(_without_keys(httpx.get(f"{url}/openapi.json").json()))
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    asked = [one for one in operations if not one.path.endswith(_ENDLESS)]
    assert len(asked) > 30
    faults = [
        fault
        for operation in asked
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        if (fault := _ask(operation, mode, url, key, examples))
    ]
    assert not faults, "\n\n".join(faults)


def _without_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Else it invents keys, and is refused for that before anything else is looked at; test_keys.py does that."""
    del document["components"]["securitySchemes"]
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


def _ask(operation: Operation, mode: GenerationMode, url: str, key: str, examples: int) -> str | None:
    """The first fault found, or None."""

    @seed(_SEED)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # not the shrinking: the first finding says enough, and the time is bounded
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: AnyCase) -> None:
        answer = case.call(base_url=url, headers={"x-api-key": key}, timeout=_ANSWER_S)
        case.validate_response(answer, checks=_CHECKS)

    try:
        ask()
    except (FailureGroup, Failure, requests.RequestException) as exc:
        parts = exc.exceptions if isinstance(exc, FailureGroup) else [exc]
        return f"{operation.label} ({mode.value}): " + "; ".join(map(str, parts))
    except Unsatisfiable:  # nothing can be wrong with a request that has no parts
        return None
    return None
