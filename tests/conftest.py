"""What every test may ask for: a whole stack, or its servers alone. Each is started once per session, on demand."""

from collections.abc import AsyncIterator

import pytest_asyncio

from devstack.stack import Stack
from support.stack import running_stack


@pytest_asyncio.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Servers and services, an admin key, and a user with 100 credits."""
    async with running_stack() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def servers() -> AsyncIterator[Stack]:
    """PostgreSQL with its roles, Valkey, Kafka with its topics, ClickHouse, the bucket; no service runs."""
    async with running_stack(servers_only=True) as running:
        yield running
