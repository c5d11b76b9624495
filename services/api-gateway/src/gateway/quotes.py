"""POST /v1/query/quote: what a query would cost, before it runs, as a promise that is kept.

A quote carries the prices of its moment, sealed: a query with its quote_id is charged by them and never more than
credits_max, whatever the price list says by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from common import prices
from common.datasets import PriceList
from common.errors import InvalidRequest
from gateway.query_cursor import digest_of
from gateway.query_plan import QueryPlan
from gateway.query_request import QueryRequest
from gateway.query_seals import BadSeal, Seals
from gateway.roles import Caller

_PURPOSE = "quote"
_FREE = frozenset({"quote_id", "max_credits", "wait_ms"})


@dataclass(frozen=True)
class Quote:
    """What was promised; amounts in millicredits."""

    ceiling: int
    prices: PriceList


def quoted(  # noqa: PLR0917 - what a promise is made of
    ask: QueryRequest, plan: QueryPlan, caller: Caller, rows_read: int, until: datetime, seals: Seals
) -> dict[str, Any]:
    """The answer. `rows_read` is ClickHouse's estimate; no more rows than that, or than the limit, can be returned."""
    least = prices.price_of(plan.price_list, rows=0, aggregate=plan.aggregate, cached=True)
    rows = 1 if plan.one_row_at_most else min(rows_read, plan.limit)
    most = prices.price_cap(
        plan.price_list, limit_rows=plan.limit, rows_read_estimate=rows_read, aggregate=plan.aggregate
    )
    most = min(most, plan.price_cap)
    content = {
        "of": digest_of(ask, _FREE),
        "by": str(caller.user_id),
        "most": most,
        "prices": plan.price_list.model_dump(mode="json"),
        "until": until.timestamp(),
    }
    return {
        "credits_min": prices.credits(min(least, most)),
        "credits_max": prices.credits(most),
        "rows_estimate": rows,
        "rows_read_estimate": rows_read,
        "quote_id": seals.seal(_PURPOSE, content),
        "expires_at": until.astimezone(UTC),
    }


def honoured(ask: QueryRequest, caller: Caller, now: datetime, seals: Seals) -> Quote | None:
    """The quote that this query comes with. Raises InvalidRequest unless it is the caller's, for it, and in time."""
    if ask.quote_id is None:
        return None
    try:
        found = seals.open(_PURPOSE, ask.quote_id)
    except BadSeal:
        raise _refused("this is not a quote of ours") from None
    if found["by"] != str(caller.user_id) or found["of"] != digest_of(ask, _FREE):
        raise _refused("this quote was given for another query")
    if now.timestamp() > found["until"]:
        raise _refused("this quote has expired, ask for another")
    return Quote(found["most"], _as_promised(found["prices"]))


def expiry(now: datetime, ttl_s: int) -> datetime:
    return now.replace(microsecond=0) + timedelta(seconds=ttl_s)


def _as_promised(figures: dict[str, Any]) -> PriceList:
    # Not validated: the file says credits, the model holds millicredits, and this comes from the model.
    return PriceList.model_construct(**figures)


def _refused(error: str) -> InvalidRequest:
    return InvalidRequest(details=[{"path": "quote_id", "error": error}])
