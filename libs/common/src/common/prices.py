"""What a query costs. One pure function serves quote, cap and capture, so that they cannot disagree.

Amounts are whole millicredits. A part of a millicredit is rounded up, in `price_of` and in the SQL that checks
receipts (credits schema), so both arrive at the same figure.
"""

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any

import orjson

from common.credit_operations import AMOUNT_MAX_MC
from common.datasets import PriceList
from common.errors import QueryTooExpensive

_MILLION = 1_000_000
# EXPLAIN ESTIMATE said 163,840 where the query read 212,992 (1.3 times); small tables read whole granules of each part.
_HEADROOM = Fraction(3, 2)
_HEADROOM_ROWS = 65_536


@dataclass(frozen=True)
class Allowed:
    """What a cap pays for. None: the price list puts no limit on it. Never 0, which ClickHouse reads as unlimited."""

    rows: int | None
    rows_read: int | None


def price_of(prices: PriceList, *, rows: int, rows_read: int = 0, aggregate: bool = False, cached: bool = False) -> int:
    """What an answer costs: `rows` returned, `rows_read` scanned. Never more than per_query_max."""
    whole = min(_uncapped(prices, rows=rows, rows_read=rows_read, aggregate=aggregate), prices.per_query_max)
    if not cached:
        return whole
    share = _share(prices.cached)
    return -(-whole * share.numerator // share.denominator)


def price_cap(prices: PriceList, *, limit_rows: int, rows_read_estimate: int = 0, aggregate: bool = False) -> int:
    """The most this query can cost, which is what is reserved: every row of its limit, the estimate with headroom."""
    rows_read = rows_read_allowed(rows_read_estimate) if prices.per_million_rows_read else 0
    return price_of(prices, rows=limit_rows, rows_read=rows_read, aggregate=aggregate)


def rows_read_allowed(estimate: int) -> int:
    """The stated headroom over EXPLAIN ESTIMATE: half as much again, and one part's worth of granules."""
    return math.ceil(estimate * _HEADROOM) + _HEADROOM_ROWS


def allowed_by(
    prices: PriceList, cap_mc: int, *, limit_rows: int, rows_read_estimate: int = 0, aggregate: bool = False
) -> Allowed:
    """The limits that keep a query's price within its cap.

    Reading the estimate comes first, since without it there is no answer; then rows up to the limit; what is left
    pays for reading beyond the estimate. Raises QueryTooExpensive when the cap does not cover the estimate and a row.
    """
    needs = max(1, rows_read_estimate)
    least = _uncapped(prices, rows=1, rows_read=needs, aggregate=aggregate)
    cap = min(cap_mc, prices.per_query_max)
    if least > cap:
        raise QueryTooExpensive(details={"estimate": credits(least), "limit": credits(cap)})
    rows = None if not prices.per_row else min(limit_rows, 1 + (cap - least) // prices.per_row)
    if not prices.per_million_rows_read:
        return Allowed(rows, None)
    left = cap - _uncapped(prices, rows=rows or 0, rows_read=0, aggregate=aggregate)
    return Allowed(rows, left * _MILLION // prices.per_million_rows_read)


def price_figures(
    prices: PriceList, *, rows: int, rows_read: int = 0, aggregate: bool = False, cached: bool = False
) -> dict[str, Any]:
    """For Receipt.price: everything `price_of` looked at, so that reconcile can work the charge out again in SQL."""
    return {
        "base_mc": _base(prices, aggregate=aggregate),
        "per_row_mc": prices.per_row,
        "per_million_rows_read_mc": prices.per_million_rows_read,
        "per_query_max_mc": prices.per_query_max,
        "share": str(prices.cached) if cached else "1",
        "rows": rows,
        "rows_read": rows_read,
    }


@lru_cache(maxsize=256)
def price_version(prices: PriceList) -> str:
    """Twelve hex digits that change exactly when a figure of the price list does."""
    canonical = orjson.dumps(prices.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:12]


def credits(mc: int) -> int | float:  # noqa: A001 - the word of the public API; nothing here wants the interactive one
    """Millicredits as the public API shows them: 1000 is 1, 1500 is 1.5."""
    whole, rest = divmod(mc, 1000)
    return mc / 1000 if rest else whole


def to_millicredits(value: object) -> int:
    """Credits from outside, exactly. ValueError says what is wrong: no number, negative, a fourth decimal, too big."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("credits must be a number")  # noqa: TRY004 - pydantic turns only ValueError into a fault
    try:
        # repr is the shortest decimal that gives this float: 0.1 is 0.1 here.
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError("credits must be a number") from None
    if not amount.is_finite():
        raise ValueError("credits must be a finite number")
    if amount < 0:
        raise ValueError("credits must not be negative")
    if amount * 1000 > AMOUNT_MAX_MC:
        raise ValueError(f"credits must be at most {AMOUNT_MAX_MC // 1000}")
    millicredits = int(amount * 1000)
    if amount * 1000 != millicredits:
        raise ValueError("credits have at most three decimal places")
    return millicredits


def number_to_millicredits(value: object) -> int:
    """`to_millicredits` for JSON bodies, where credits are a number and "5" is a mistake."""
    if isinstance(value, str):
        raise ValueError("credits must be a number")  # noqa: TRY004 - pydantic turns only ValueError into a fault
    return to_millicredits(value)


@lru_cache(maxsize=256)
def _share(cached: float) -> Fraction:
    """As it is written in the declaration: 0.1 is a tenth."""
    return Fraction(str(cached))


def _base(prices: PriceList, *, aggregate: bool) -> int:
    return prices.aggregate if aggregate and prices.aggregate is not None else prices.per_query


def _uncapped(prices: PriceList, *, rows: int, rows_read: int, aggregate: bool) -> int:
    reading = -(-rows_read * prices.per_million_rows_read // _MILLION)
    return _base(prices, aggregate=aggregate) + rows * prices.per_row + reading
