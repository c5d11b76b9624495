"""What becomes of a query: its answer's bytes, its charge and its receipt."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import orjson

from common import prices
from common.credit_operations import Receipt, StoredAnswer
from gateway.query_plan import QueryPlan
from gateway.roles import Caller
from gateway.spool import Captured, Released
from gateway.warehouse import Page

JSON = "application/json"
# Larger ones are not kept for a repeat of their Idempotency-Key; the repeat then gets the receipt.
ANSWER_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Run:
    """A plan being run for somebody. Its id is also that of its hold."""

    query_id: UUID
    plan: QueryPlan
    caller: Caller
    started: float  # of time.perf_counter
    as_of: datetime  # what was loaded at this moment is in the answer
    cached: bool = False
    rows_read: int = 0  # of a stream: the estimate that it is charged by

    @property
    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 2)

    def answered_by(self, page: Page, as_of: datetime) -> Run:
        """The same, with an answer that is there already: its price is all that has to be held."""
        price = self.plan.price(page.rows, page.rows_read, cached=True)
        return replace(self, plan=replace(self.plan, price_cap=price), as_of=as_of, cached=True)


def json_answer(run: Run, page: Page, *, used_mc: int, left_mc: int, cursor: str | None = None) -> bytes:
    """The answer of http-api: metadata of ours, and the rows as ClickHouse wrote them."""
    metadata = {
        "total_records": page.total,
        "returned": page.rows,
        "credits_used": prices.credits(used_mc),
        "credits_remaining": prices.credits(left_mc),
        "response_time": run.elapsed_ms,
        "dataset": run.plan.dataset,
        "cached": run.cached,
        "query_id": run.query_id,
        "next_cursor": cursor,
        "as_of": run.as_of,
    }
    return b'{"metadata":%b,"data":%b}' % (orjson.dumps(metadata, option=orjson.OPT_UTC_Z), page.data)


def captured(run: Run, rows: int, rows_read: int, *, used_mc: int, kept: bytes | None) -> Captured:
    """The charge of an answered query. `kept`: the body, when a repeat must get it byte for byte."""
    plan = run.plan
    figures = prices.price_figures(
        plan.price_list, rows=rows, rows_read=rows_read, aggregate=plan.aggregate, cached=run.cached
    )
    receipt = Receipt(
        query_id=run.query_id,
        dataset=plan.dataset,
        state="captured",
        rows=rows,
        duration_ms=run.elapsed_ms,
        price_version=prices.price_version(plan.price_list),
        price=figures,
    )
    stored = None
    if kept is not None and len(kept) <= ANSWER_BYTES_MAX:
        stored = StoredAnswer(
            status=200, headers={"content-type": JSON}, body_base64=base64.b64encode(kept).decode("ascii")
        )
    return Captured(run.query_id, run.caller.user_id, used_mc, receipt, stored)


def released(run: Run, reason: str) -> Released:
    """A query that failed costs nothing, and its receipt says why."""
    receipt = Receipt(
        query_id=run.query_id,
        dataset=run.plan.dataset,
        state="released",
        duration_ms=run.elapsed_ms,
        price_version=prices.price_version(run.plan.price_list),
        refund_reason=reason,
    )
    return Released(run.query_id, run.caller.user_id, reason, receipt)
