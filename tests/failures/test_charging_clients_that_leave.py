"""Clients that leave at any moment, the commit of their charge included, and ask again with their key."""

import asyncio
import random

import httpx

from common.ids import new_id
from devstack.stack import Stack
from support.accounts import answered_in_the_end, never_asked, open_account
from support.client import Answered

_KEYS = 1000
_AT_ONCE = 25
_WARM = 3
_CHARGED_KEYS = """
    SELECT count(DISTINCT idempotency_key) FROM credits.holds
     WHERE user_id = $1 AND state = 'captured' AND idempotency_key LIKE 'left-%'
"""


async def test_a_key_whose_client_left_at_any_moment_is_charged_once(
    stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    """5: 1,000 random moments from before the hold to after the answer; then every key is asked until it is answered.

    What happens around the ledger's own COMMIT alone is in tests/contracts/test_ledger_concurrency.py.
    """
    chance = random.Random(5)  # noqa: S311 - the same moments every time
    keys = [{"Idempotency-Key": f"left-{number}-{new_id()}"} for number in range(_KEYS)]
    left = 0
    async with open_account(stack, admin, answered, credits=_KEYS + _WARM) as account, account.client() as client:
        # The quickest of some: the first one also opens connections.
        took = min([(await client.post("/v1/query", json=never_asked())).elapsed.total_seconds() for _ in range(_WARM)])

        async def leave(key: dict[str, str]) -> int:
            try:
                async with asyncio.timeout(chance.uniform(0, _AT_ONCE * took)):
                    await client.post("/v1/query", json=never_asked(key), headers=key)
            except TimeoutError:
                return 1
            return 0

        async def whole(key: dict[str, str]) -> None:
            await answered_in_the_end(client, key, deadline_s=60)

        for first in range(0, _KEYS, _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            left += sum(await asyncio.gather(*map(leave, some)))
            await asyncio.gather(*map(whole, some))
        await account.settled_at(0)
        assert await account.charges() == _KEYS + _WARM
        assert await account.ledger.fetchval(_CHARGED_KEYS, account.user_id) == _KEYS
    assert left > _KEYS / 10
