from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from devstack.stack import Stack
from support.accounts import Account, open_account
from support.checks import invariants_hold
from support.client import Answered
from support.proxied import Proxied, open_proxied

__all__ = ["account", "invariants_hold", "proxied"]


@pytest_asyncio.fixture
async def account(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> AsyncIterator[Account]:
    """A user of this test's own with 10 credits, watched in the ledger."""
    async with open_account(stack, admin, answered) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session")
async def second_gateway(stack: Stack) -> AsyncIterator[Proxied]:
    # A small pool and short statements: a fault shows sooner, and a leak at once.
    async with open_proxied(stack, index=9, env={"POSTGRES_POOL_MAX": "4", "POSTGRES_STATEMENT_S": "3"}) as opened:
        yield opened


@pytest_asyncio.fixture
async def proxied(second_gateway: Proxied) -> AsyncIterator[Proxied]:
    """A second gateway, healed after each test; whoever kills or stops one opens its own."""
    yield second_gateway
    second_gateway.heal()
