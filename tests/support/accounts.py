"""A user with credits, and what the ledger itself says of them: no figure of a service is trusted."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx

from common.ids import new_id
from devstack.stack import Stack
from support.client import Answered, create_user, open_client
from support.polling import until

ASK = {"limit": 1}  # one credit; its answer may be a kept one
Ledger: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@dataclass(frozen=True)
class Account:
    stack: Stack
    answered: Answered
    ledger: Ledger
    user_id: UUID
    key: str

    def client(
        self, gateway: str = "gateway", *, timeout_s: float = 60, answered: Answered | None = None
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """`answered`: a set of the test's own for answers that are known to miss in the log."""
        remember = self.answered if answered is None else answered
        return open_client(self.stack, self.key, remember, gateway=gateway, timeout_s=timeout_s)

    async def balance(self) -> tuple[float, float]:
        """Credits posted and held."""
        row = await self.ledger.fetchrow("SELECT posted, held FROM credits.accounts WHERE user_id = $1", self.user_id)
        assert row is not None
        return row["posted"] / 1000, row["held"] / 1000

    async def charges(self) -> int:
        count: int = await self.ledger.fetchval(
            "SELECT count(*) FROM credits.entries WHERE user_id = $1 AND kind = 'capture'", self.user_id
        )
        return count

    async def holds(self) -> list[str]:
        """Their states, oldest first."""
        rows = await self.ledger.fetch(
            "SELECT state FROM credits.holds WHERE user_id = $1 ORDER BY created_at, hold_id", self.user_id
        )
        return [row["state"] for row in rows]

    async def let_holds_run_out(self) -> None:
        """As their deadline would, which is a minute or two away: a gateway that was killed settles nothing."""
        await self.ledger.execute(
            "UPDATE credits.holds SET expires_at = clock_timestamp() WHERE user_id = $1 AND state = 'open'",
            self.user_id,
        )

    async def settled_at(self, credits_left: float, *, deadline_s: float = 30) -> None:
        """Wait until nothing is held and the balance is this."""

        async def settled() -> bool:
            return await self.balance() == (credits_left, 0)

        try:
            await until("the charges to be settled", settled, deadline_s=deadline_s)
        except AssertionError:
            assert (await self.balance(), await self.holds()) == ((credits_left, 0), [])


@asynccontextmanager
async def open_account(
    stack: Stack,
    admin: httpx.AsyncClient,
    answered: Answered,
    *,
    credits: float = 10,  # noqa: A002 - the field's name
) -> AsyncIterator[Account]:
    """A new user without a limit on requests."""
    created = await create_user(admin, f"payer-{new_id()}", credits=credits, plan="unlimited")
    # A pool of one: it connects again after a fault of Postgres itself.
    ledger = await asyncpg.create_pool(str(stack.status().postgres), min_size=0, max_size=1)
    try:
        yield Account(stack, answered, ledger, UUID(created["user"]["id"]), created["api_key"])
    finally:
        ledger.terminate()


def some_key() -> dict[str, str]:
    return {"Idempotency-Key": f"key-{new_id()}"}


def never_asked(key: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A query of one credit that nobody has asked before, so that ClickHouse is asked. One key has one body."""
    who = "-".join(key.values()) if key else new_id()
    return {"limit": 1, "filters": {"email": f"{who}@example.com"}}


async def answered_in_the_end(
    client: httpx.AsyncClient, key: dict[str, str], body: dict[str, Any] | None = None, *, deadline_s: float = 30
) -> httpx.Response:
    """What a client does that must not pay twice: ask again with its key until there is an answer."""

    async def asked() -> httpx.Response | None:
        answer = await client.post("/v1/query", json=body or never_asked(key), headers=key)
        assert answer.status_code in {200, 409, 503}, answer.text
        return answer if answer.status_code == 200 else None

    answer = await until("an answer", asked, deadline_s=deadline_s)
    assert answer is not None
    return answer
