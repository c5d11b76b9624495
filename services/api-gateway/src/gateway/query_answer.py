"""What becomes of a query: its answer's bytes, its charge and its receipt."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
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

    @property
    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started) * 1000, 2)


def json_answer(run: Run, page: Page, *, used_mc: int, left_mc: int) -> bytes:
    """The answer of http-api: metadata of ours, and the rows as ClickHouse wrote them."""
    metadata = {
        "total_records": page.total,
        "returned": page.rows,
        "credits_used": prices.credits(used_mc),
        "credits_remaining": prices.credits(left_mc),
        "response_time": run.elapsed_ms,
        "dataset": run.plan.dataset,
        "cached": False,
        "query_id": run.query_id,
        "next_cursor": None,
        "as_of": run.as_of,
    }
    return b'{"metadata":%b,"data":%b}' % (orjson.dumps(metadata, option=orjson.OPT_UTC_Z), page.data)


def captured(run: Run, page: Page, *, used_mc: int, kept: bytes | None) -> Captured:
    """The charge of an answered query. `kept`: the body, when a repeat must get it byte for byte."""
    prices_asked = run.plan.price_list
    receipt = Receipt(
        query_id=run.query_id,
        dataset=run.plan.dataset,
        state="captured",
        rows=page.rows,
        duration_ms=run.elapsed_ms,
        price_version=prices.price_version(prices_asked),
        price=prices.price_figures(prices_asked, rows=page.rows, rows_read=page.rows_read),
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
