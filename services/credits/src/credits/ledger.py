"""The way to the ledger: many operations in, one transaction, one outcome each. What decides is migrations/0002."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from common.errors import Unavailable
from common.faultpoints import faultpoint
from common.logs import get_logger
from credits.settings import Settings

Outcome: TypeAlias = dict[str, Any]  # the JSON of common.credit_operations.Outcome, without its empty fields

_log = get_logger(__name__)
_TRIES = 8
# The server's word that nothing happened, as a whole, and that the same may succeed now.
_ROLLED_BACK = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# Nothing happened, because of a single row: its values, a constraint, or the lock of its account.
_OF_ONE_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.LockNotAvailableError)
# An account that somebody keeps locked must not take the whole deadline of everybody else.
_LOCK_SHARE = 0.2


class Row(NamedTuple):
    """One operation as the function takes it; what it does not need stays empty."""

    op: str
    user_id: UUID | None = None
    hold_id: UUID | None = None
    entry_id: UUID | None = None
    amount: int | None = None
    ttl_s: int | None = None
    key: str | None = None
    digest: bytes | None = None
    actor: str | None = None
    reason: str | None = None
    query_id: UUID | None = None
    dataset: str | None = None
    rows: int | None = None
    price_version: str | None = None
    price: str | None = None
    duration_ms: float | None = None
    refund_reason: str | None = None
    status: int | None = None
    headers: str | None = None
    body: bytes | None = None


class Ledger:
    """Owns one connection: prepared once, no pool between a batch and its transaction."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.postgres_url.get_secret_value()
        self._deadline_s = settings.operation_s
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._apply: PreparedStatement[asyncpg.Record] | None = None

    async def apply(self, rows: Sequence[Row]) -> list[Outcome | Exception]:
        """Decide all rows in one transaction. Raises Unavailable when it is unknown whether that was committed.

        A row that the database itself refuses fails alone, and so does one whose account somebody else keeps locked:
        the others are tried again without it.
        """
        try:
            return [_outcome(record) for record in await self._transaction(rows)]
        except _OF_ONE_ROW as exc:
            _log.error("the ledger refused a batch", operations=len(rows), fault=f"{type(exc).__name__}: {exc}")
            if len(rows) == 1:
                return [Unavailable() if isinstance(exc, asyncpg.LockNotAvailableError) else exc]
        half = len(rows) // 2
        return [*await self.apply(rows[:half]), *await self.apply(rows[half:])]

    async def _transaction(self, rows: Sequence[Row]) -> list[asyncpg.Record]:
        for _ in range(_TRIES):
            try:
                async with self._unless_broken(), asyncio.timeout(self._deadline_s):
                    return await self._once(rows)
            except _ROLLED_BACK:
                continue
        raise Unavailable("The ledger is too busy, try again shortly")

    # One call and two phases inside it: migrations/0002_apply.sql says why.
    _APPLY = """
        SELECT code, replayed, hold_id::text, entry_id::text, state, amount_mc, posted_mc, available_mc, needed_mc
          FROM credits.apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                             $15, $16, $17, $18, $19, $20)
    """

    async def _once(self, rows: Sequence[Row]) -> list[asyncpg.Record]:
        statement = await self._connected()
        # One statement is the whole transaction: no lock is ever held while a message travels. Dying before it leaves
        # no trace; dying after it, the caller asks again with the same key.
        faultpoint("credits.before_commit")
        records = await statement.fetch(*zip(*rows, strict=True))
        faultpoint("credits.after_commit")
        return records

    async def _connected(self) -> "PreparedStatement[asyncpg.Record]":
        if self._connection is None or self._apply is None or self._connection.is_closed():
            self.drop()
            self._connection = await asyncpg.connect(
                self._url,
                timeout=self._deadline_s,
                server_settings={
                    "application_name": "credits ledger",
                    "statement_timeout": f"{int(self._deadline_s * 1000)}",
                    "lock_timeout": f"{int(self._deadline_s * _LOCK_SHARE * 1000)}",
                },
            )
            self._apply = await self._connection.prepare(self._APPLY)
        return self._apply

    @contextlib.asynccontextmanager
    async def _unless_broken(self) -> AsyncIterator[None]:
        """Whatever else goes wrong (a cut, a demoted primary, a missing migration), the next batch connects anew."""
        try:
            yield
        except BaseException as exc:
            alive = self._connection is not None and not self._connection.is_closed()
            if alive and isinstance(exc, (*_ROLLED_BACK, *_OF_ONE_ROW)):
                raise
            self.drop()
            if not isinstance(exc, Exception):
                raise
            _log.warning("the ledger's connection is given up", fault=f"{type(exc).__name__}: {exc}")
            raise Unavailable("The ledger is not available, try again shortly") from exc

    def drop(self) -> None:
        """At once: closing in good order waits for ever against a frozen server."""
        if self._connection is not None:
            self._connection.terminate()
        self._connection = self._apply = None


_FIELDS = ("hold_id", "entry_id", "state", "amount_mc", "posted_mc", "available_mc", "needed_mc")


def _outcome(record: asyncpg.Record) -> Outcome:
    code, replayed, *values = record.values()
    outcome: Outcome = {"ok": True} if code is None else {"ok": False, "code": code}
    if replayed:
        outcome["replayed"] = True
    outcome.update((name, value) for name, value in zip(_FIELDS, values, strict=True) if value is not None)
    return outcome


@contextlib.asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """Connects with the first batch."""
    ledger = Ledger(settings)
    try:
        yield ledger
    finally:
        ledger.drop()
