"""What every test may ask for: a whole stack, or its servers alone. Each is started once per session, on demand."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from hypothesis import settings

from common.ids import new_id
from devstack.reconcile import ask, books_of_stack, drifts
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.stack import running_stack

# The same examples every time, or a run would fail by chance. `make fuzz` looks for new ones.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("searching", max_examples=1000, deadline=None)
settings.load_profile("fixed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=["local", "containers"],
        default="local",
        help="containers: on docker-compose.yml, for tests/journeys and whatever needs no process of its own",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--stack") == "containers":
        os.environ["STACK"] = "compose"


@pytest_asyncio.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Servers and services, an admin key, and a user with 100 credits."""
    async with running_stack() as running:
        yield running
        # Everything that needed it has run, faults and all: the books must still agree.
        drifted = drifts(ask(books_of_stack(running)))
        assert not drifted, f"bigdata reconcile after the whole suite: {drifted}"


@pytest_asyncio.fixture(scope="session")
async def servers() -> AsyncIterator[Stack]:
    """PostgreSQL with its roles, Valkey, Kafka with its topics, ClickHouse, the bucket; no service runs."""
    async with running_stack(servers_only=True) as running:
        yield running


@pytest.fixture(scope="session")
def answered() -> Answered:
    """Ids of the requests that a gateway answered; the check of invariant I4 empties it.

    Not a coroutine: the check asks for it while the loop runs, also when a test with `stack` alone comes first.
    """
    return set()


@pytest_asyncio.fixture(scope="session")
async def admin(stack: Stack, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(stack, stack.status().admin_key, answered) as client:
        yield client


@pytest_asyncio.fixture
async def payer(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[httpx.AsyncClient]:
    """A user of this test's own, with 10 credits and no limit on requests."""
    created = await create_user(admin, f"payer-{new_id()}", credits=10, plan="unlimited")
    async with open_client(stack, created["api_key"], answered) as client:
        yield client
