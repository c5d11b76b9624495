"""The credits service's ledger on a real PostgreSQL, and operations written short."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from common import prices
from common.datasets import PriceList
from common.ids import new_id
from common.migrations import migrate
from common.postgres import Connection, Pool, open_postgres
from credits.batch import GroupCommit, open_group_commit
from credits.ledger import Ledger, Outcome, Row, open_ledger
from credits.operations import batch_answer, rows_of_batch
from credits.reconcile import reconcile
from credits.settings import Settings
from devstack.postgres import dsn
from devstack.stack import Stack

DIGEST = "0" * 64
OTHER_DIGEST = "1" * 64
TOKEN = "token"


@dataclass
class Books:
    """One replica of the service without its port, and the owner's connection for looking from outside."""

    settings: Settings
    pool: Pool
    reader: Connection
    ledger: Ledger
    commits: GroupCommit
    owner: "asyncpg.Connection[asyncpg.Record]"

    async def batch(self, *operations: dict[str, Any]) -> list[Outcome]:
        """One call with these operations; every detail of the way but HTTP."""
        outcomes = await self.commits.submit(rows_of(*operations))
        answered: list[Outcome] = orjson.loads(batch_answer(outcomes))["outcomes"]
        return answered

    async def decide(self, *operations: dict[str, Any]) -> list[Outcome]:
        """Straight to the database's function, in exactly this order."""
        answered: list[Outcome] = orjson.loads(batch_answer(await self.ledger.apply(rows_of(*operations))))["outcomes"]
        return answered

    async def one(self, operation: dict[str, Any]) -> Outcome:
        return (await self.batch(operation))[0]

    async def account(self, credits_mc: int, *, low_balance_mc: int = 0) -> UUID:
        user = new_id()
        granted = grant(user, credits_mc) if credits_mc else open_account(user)
        await self.batch(open_account(user, low_balance_mc), granted)
        return user

    async def balance(self, user: UUID) -> tuple[int, int]:
        """posted, held"""
        row = await self.owner.fetchrow("SELECT posted, held FROM credits.accounts WHERE user_id = $1", user)
        assert row is not None
        return row["posted"], row["held"]

    async def rows_of_table(self, table: str) -> int:
        rows: int = await self.pool.fetchval(f"SELECT count(*) FROM credits.{table}")  # noqa: S608 - a table's name
        return rows

    async def count(self, table: str, user: UUID) -> int:
        count: int = await self.owner.fetchval(f"SELECT count(*) FROM credits.{table} WHERE user_id = $1", user)  # noqa: S608 - a table's name
        return count


def rows_of(*operations: dict[str, Any]) -> list[Row]:
    return rows_of_batch(orjson.dumps({"operations": list(operations)}, default=str))


@asynccontextmanager
async def open_books(servers: Stack, **settings: Any) -> AsyncIterator[Books]:
    made = ledger_settings(servers, **settings)
    async with AsyncExitStack() as closing:
        assert made.migrate_postgres_url is not None
        owner = await asyncpg.connect(made.migrate_postgres_url.get_secret_value())
        closing.push_async_callback(owner.close)
        pool = await closing.enter_async_context(open_postgres(made))
        reader = await closing.enter_async_context(pool.acquire())
        ledger = await closing.enter_async_context(open_ledger(made))
        commits = await closing.enter_async_context(open_group_commit(group_commit(ledger, made)))
        yield Books(made, pool, reader, ledger, commits, owner)


def ledger_settings(servers: Stack, **settings: Any) -> Settings:
    return Settings.model_validate(
        {
            "postgres_url": dsn(servers.site, "credits"),
            "migrate_postgres_url": dsn(servers.site, "credits_owner"),
            "kafka_brokers": "nowhere:1",
            "credits_tokens": TOKEN,
            "operation_s": 20,  # the machine may be busy with other tests
            **settings,
        }
    )


async def migrated(servers: Stack) -> None:
    await migrate(ledger_settings(servers), "credits", "credits")


def group_commit(ledger: Ledger, settings: Settings) -> GroupCommit:
    return GroupCommit(
        ledger.apply,
        batch_max=settings.batch_operations_max,
        queue_max=settings.queue_operations_max,
        account_max=settings.account_operations_max,
        deadline_s=settings.operation_s,
    )


async def assert_books_agree(books: Books) -> None:
    """Invariants I1, I2 and I6, and every other figure that the ledger can answer alone."""
    figures = await reconcile(books.owner)
    wrong = {name: found for name, found in figures.items() if found != 0 and "audit" not in name}
    assert not wrong, wrong


def dice() -> random.Random:
    """Chance that comes out the same every time."""
    return random.Random(20_261_121)  # noqa: S311 - not a secret


async def together(books: Sequence[Books], operations: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Every operation in a call of its own, all at once, spread over the replicas."""
    return await asyncio.gather(*(books[no % len(books)].one(ask) for no, ask in enumerate(operations)))


def open_account(user: UUID, low_balance_mc: int = 0) -> dict[str, Any]:
    return {"op": "open_account", "user_id": user, "low_balance_mc": low_balance_mc}


def grant(user: UUID, amount_mc: int, key: str | None = None) -> dict[str, Any]:
    return {"op": "grant", "user_id": user, "amount_mc": amount_mc, "actor": "test", "key": key or str(new_id())}


def set_balance(user: UUID, amount_mc: int, key: str | None = None) -> dict[str, Any]:
    return {"op": "set_balance", "user_id": user, "amount_mc": amount_mc, "actor": "test", "key": key or str(new_id())}


def refund(entry: UUID | str, amount_mc: int, key: str | None = None) -> dict[str, Any]:
    return {"op": "refund", "entry_id": entry, "amount_mc": amount_mc, "actor": "test", "key": key or str(new_id())}


def reserve(
    user: UUID,
    amount_mc: int,
    *,
    hold: UUID | None = None,
    key: str | None = None,
    ttl_s: int = 3600,
    digest: str = DIGEST,
) -> dict[str, Any]:
    asked = {"op": "reserve", "user_id": user, "amount_mc": amount_mc, "ttl_s": ttl_s, "digest": digest, "key": key}
    return asked | {"hold_id": hold or new_id()}


def capture(hold: UUID | str, amount_mc: int, *, answer: dict[str, Any] | None = None) -> dict[str, Any]:
    price = PriceList(per_query=amount_mc / 1000, per_query_max=max(20, amount_mc / 1000))
    receipt = {
        "query_id": hold,
        "dataset": "people",
        "state": "captured",
        "rows": 7,
        "duration_ms": 2.5,
        "price_version": prices.price_version(price),
        "price": prices.price_figures(price, rows=7),
    }
    return {"op": "capture", "hold_id": hold, "amount_mc": amount_mc, "receipt": receipt, "answer": answer}


def release(hold: UUID | str, reason: str = "query_timeout", *, receipt: bool = False) -> dict[str, Any]:
    asked: dict[str, Any] = {"op": "release", "hold_id": hold, "reason": reason}
    if receipt:
        asked["receipt"] = {
            "query_id": hold,
            "dataset": "people",
            "state": "released",
            "price_version": "x",
            "refund_reason": reason,
        }
    return asked


def extend(hold: UUID | str, ttl_s: int) -> dict[str, Any]:
    return {"op": "extend", "hold_id": hold, "ttl_s": ttl_s}
