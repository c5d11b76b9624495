"""The fixture that folders of journeys, faults and hostile inputs import: every invariant holds after every test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from devstack.stack import Stack
from support.client import Answered
from support.invariants import broken_invariants


@pytest_asyncio.fixture(autouse=True)
async def invariants_hold(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Only for tests that use the whole stack. A test that breaks one on purpose mends it before it ends."""
    if "stack" not in request.fixturenames:
        yield
        return
    stack: Stack = request.getfixturevalue("stack")
    answered: Answered = request.getfixturevalue("answered")
    yield
    broken = await broken_invariants(stack, answered)
    answered.clear()
    assert not broken, f"after this test: {broken}"
