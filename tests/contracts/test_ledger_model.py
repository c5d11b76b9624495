"""Random operations, random batches, several accounts: the ledger must answer as a model of a few lines does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from common.ids import new_id
from devstack.stack import Stack
from support.ledger import (
    Books,
    assert_books_agree,
    capture,
    extend,
    grant,
    migrated,
    open_books,
    refund,
    release,
    reserve,
    set_balance,
)

ACCOUNTS = 3
AMOUNTS = st.integers(0, 12)
KEYS = st.sampled_from([None, "a", "b", "c"])
MACHINE = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Model:
    """The ledger as one would explain it: decide, then change, one operation after the other."""

    posted: dict[UUID, int] = field(default_factory=dict)
    holds: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    keys: dict[tuple[UUID, str], UUID] = field(default_factory=dict)
    refunded: dict[UUID, int] = field(default_factory=dict)

    def held(self, user: UUID) -> int:
        return sum(one["amount"] for one in self.holds.values() if one["user"] == user and one["state"] == "open")

    def decide(self, ask: dict[str, Any]) -> str:
        verdict: str = getattr(self, f"_{ask['op']}")(ask)
        return verdict

    def _reserve(self, ask: dict[str, Any]) -> str:
        user, hold, key = ask["user_id"], ask["hold_id"], ask["key"]
        if hold in self.holds:
            return (
                "ok" if (self.holds[hold]["user"], self.holds[hold]["key"]) == (user, key) else "idempotency_mismatch"
            )
        earlier = self.keys.get((user, key))
        if earlier and self.holds[earlier]["state"] in {"open", "captured"}:
            return "ok"
        if ask["amount_mc"] > self.posted[user] - self.held(user):
            return "insufficient_credits"
        self.holds[hold] = {"user": user, "amount": ask["amount_mc"], "state": "open", "captured": 0, "key": key}
        if key:
            self.keys[user, key] = hold
        return "ok"

    def _capture(self, ask: dict[str, Any]) -> str:
        hold, amount = self.holds.get(ask["hold_id"]), ask["amount_mc"]
        if hold is None:
            return "unknown_hold"
        if hold["state"] != "open":
            return "ok" if (hold["state"], hold["captured"]) == ("captured", amount) else "hold_closed"
        if amount > hold["amount"]:
            return "capture_exceeds_hold"
        hold |= {"state": "captured", "captured": amount}
        self.posted[hold["user"]] -= amount
        return "ok"

    def _release(self, ask: dict[str, Any]) -> str:
        hold = self.holds.get(ask["hold_id"])
        if hold is None:
            return "unknown_hold"
        if hold["state"] == "open":
            hold["state"] = "released"
        return "ok" if hold["state"] == "released" else "hold_closed"

    def _extend(self, ask: dict[str, Any]) -> str:
        hold = self.holds.get(ask["hold_id"])
        if hold is None:
            return "unknown_hold"
        return "ok" if hold["state"] == "open" else "hold_closed"

    def _grant(self, ask: dict[str, Any]) -> str:
        self.posted[ask["user_id"]] += ask["amount_mc"]
        return "ok"

    def _set_balance(self, ask: dict[str, Any]) -> str:
        if ask["amount_mc"] < self.held(ask["user_id"]):
            return "amount_out_of_range"
        self.posted[ask["user_id"]] = ask["amount_mc"]
        return "ok"

    def _refund(self, ask: dict[str, Any]) -> str:
        hold = self.holds.get(ask["entry_id"])  # a capture's entry has its hold's id
        if hold is None or not hold["captured"]:
            return "unknown_entry"
        if self.refunded.get(ask["entry_id"], 0) + ask["amount_mc"] > hold["captured"]:
            return "refund_exceeds_capture"
        self.refunded[ask["entry_id"]] = self.refunded.get(ask["entry_id"], 0) + ask["amount_mc"]
        self.posted[hold["user"]] += ask["amount_mc"]
        return "ok"


class LedgerMachine(RuleBasedStateMachine):
    """Operations gather in a batch; sending it compares every outcome, and afterwards every balance."""

    books: Books
    loop: asyncio.AbstractEventLoop
    holds: Bundle[UUID] = Bundle("holds")

    @initialize()
    def open_accounts(self) -> None:
        self.model, self.batch = Model(), list[dict[str, Any]]()
        self.users = [self._run(self.books.account(20)) for _ in range(ACCOUNTS)]
        self.model.posted = dict.fromkeys(self.users, 20)

    @rule(target=holds, who=st.integers(0, ACCOUNTS - 1), amount=AMOUNTS, key=KEYS)
    def reserve(self, who: int, amount: int, key: str | None) -> UUID:
        hold = new_id()
        self.batch.append(reserve(self.users[who], amount, hold=hold, key=key))
        return hold

    @rule(hold=holds, who=st.integers(0, ACCOUNTS - 1), amount=AMOUNTS, key=KEYS)
    def reserve_again(self, hold: UUID, who: int, amount: int, key: str | None) -> None:
        self.batch.append(reserve(self.users[who], amount, hold=hold, key=key))

    @rule(hold=holds, amount=AMOUNTS)
    def capture(self, hold: UUID, amount: int) -> None:
        self.batch.append(capture(hold, amount))

    @rule(hold=holds)
    def release(self, hold: UUID) -> None:
        self.batch.append(release(hold))

    @rule(hold=holds)
    def extend(self, hold: UUID) -> None:
        self.batch.append(extend(hold, 60))

    @rule(who=st.integers(0, ACCOUNTS - 1), amount=st.integers(1, 12))
    def grant(self, who: int, amount: int) -> None:
        self.batch.append(grant(self.users[who], amount))

    @rule(who=st.integers(0, ACCOUNTS - 1), amount=AMOUNTS)
    def set_balance(self, who: int, amount: int) -> None:
        self.batch.append(set_balance(self.users[who], amount))

    @rule(hold=holds, amount=st.integers(1, 12))
    def refund(self, hold: UUID, amount: int) -> None:
        self.send()  # whoever refunds an entry was told of it
        self.batch.append(refund(hold, amount))

    @rule()
    def send(self) -> None:
        batch, self.batch = self.batch, []
        if not batch:
            return
        # Straight to the function: the queue may reorder operations of different accounts.
        outcomes = self._run(self.books.decide(*batch))
        assert [one.get("code", "ok") for one in outcomes] == [self.model.decide(ask) for ask in batch]
        for user in self.users:
            assert self._run(self.books.balance(user)) == (self.model.posted[user], self.model.held(user))

    def teardown(self) -> None:
        self.send()
        self._run(assert_books_agree(self.books))

    def _run(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(30)


@pytest_asyncio.fixture(scope="module")
async def books(servers: Stack) -> AsyncIterator[Books]:
    await migrated(servers)
    async with open_books(servers) as books:
        yield books


async def test_the_ledger_answers_as_its_model_does(books: Books) -> None:
    LedgerMachine.books, LedgerMachine.loop = books, asyncio.get_running_loop()
    await asyncio.to_thread(run_state_machine_as_test, LedgerMachine, settings=MACHINE)
