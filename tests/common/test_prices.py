"""Prices: what is charged never exceeds what was reserved, and every figure is exact."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.datasets import PriceList
from common.errors import QueryTooExpensive
from common.prices import (
    allowed_by,
    credits,  # noqa: A004 - the word of the public API
    price_cap,
    price_figures,
    price_of,
    price_version,
    rows_read_allowed,
    to_millicredits,
)

PLAIN = PriceList()
METERED = PriceList(per_query=1, per_row=0.01, per_million_rows_read=2, per_query_max=50, aggregate=3, cached=0.1)
_ROWS = st.integers(0, 1_000_000)
_READ = st.integers(0, 10**10)


@st.composite
def price_lists(draw: st.DrawFn) -> PriceList:
    thousandths = st.integers(0, 30_000).map(lambda mc: mc / 1000)
    base, aggregate = draw(thousandths), draw(st.none() | thousandths)
    return PriceList(
        per_query=base,
        aggregate=aggregate,
        per_row=draw(st.integers(0, 100)) / 1000,
        per_million_rows_read=draw(thousandths),
        per_query_max=max(base, aggregate or 0) + draw(st.integers(0, 100_000)) / 1000,
        cached=draw(st.floats(0, 1)),
    )


def test_one_query_costs_one_credit_by_default() -> None:
    assert price_of(PLAIN, rows=1000, rows_read=10**9) == 1000
    assert price_cap(PLAIN, limit_rows=1000) == 1000


def test_rows_returned_and_rows_read_are_added_to_the_query() -> None:
    assert price_of(METERED, rows=100, rows_read=500_000) == 1000 + 1000 + 1000


def test_a_part_of_a_millicredit_is_rounded_up() -> None:
    assert price_of(METERED, rows=0, rows_read=1) == 1001


def test_an_aggregation_has_its_own_base_price() -> None:
    assert price_of(METERED, rows=0, aggregate=True) == 3000
    assert price_of(PLAIN, rows=0, aggregate=True) == 1000


def test_a_cached_answer_costs_its_share() -> None:
    assert price_of(METERED, rows=100, cached=True) == 200
    assert price_of(METERED, rows=0, cached=True, rows_read=1) == 101


def test_no_query_costs_more_than_its_maximum() -> None:
    assert price_of(METERED, rows=10**9, rows_read=10**12) == 50_000


def test_the_cap_covers_the_estimate_with_headroom() -> None:
    assert rows_read_allowed(163_840) >= 212_992
    assert rows_read_allowed(0) > 0


def test_a_cap_without_room_for_one_row_is_refused_with_estimate_and_limit() -> None:
    with pytest.raises(QueryTooExpensive) as refused:
        allowed_by(METERED, 1000, limit_rows=10)
    assert refused.value.details == {"estimate": 1.011, "limit": 1}


def test_a_flat_price_puts_no_limit_on_rows() -> None:
    limits = allowed_by(PLAIN, 1000, limit_rows=100)
    assert limits.rows is None
    assert limits.rows_read is None


def test_reading_the_estimate_comes_first_then_rows_then_more_reading() -> None:
    plenty = allowed_by(METERED, 3000, limit_rows=100, rows_read_estimate=100_000)
    assert plenty.rows == 100
    assert plenty.rows_read == 500_000
    scarce = allowed_by(METERED, 3000, limit_rows=100, rows_read_estimate=800_000)
    assert scarce.rows == 40
    assert scarce.rows_read == 800_000


@given(
    prices=price_lists(), cap=st.integers(0, 200_000), limit=st.integers(1, 10**6), read=_READ, aggregate=st.booleans()
)
def test_a_query_within_the_limits_of_its_cap_costs_no_more_than_the_cap(
    prices: PriceList, cap: int, limit: int, read: int, *, aggregate: bool
) -> None:
    try:
        limits = allowed_by(prices, cap, limit_rows=limit, rows_read_estimate=read, aggregate=aggregate)
    except QueryTooExpensive:
        least = price_of(prices, rows=1, rows_read=max(1, read), aggregate=aggregate)
        assert cap < least or least == prices.per_query_max
        return
    rows = limit if limits.rows is None else limits.rows
    rows_read = 10**12 if limits.rows_read is None else limits.rows_read
    assert 0 < rows <= limit
    assert rows_read >= read or rows_read == 10**12
    assert price_of(prices, rows=rows, rows_read=rows_read, aggregate=aggregate) <= cap


@given(prices=price_lists(), rows=_ROWS, read=_READ, aggregate=st.booleans(), cached=st.booleans())
def test_price_never_exceeds_the_cap_within_limit_and_estimate(
    prices: PriceList, rows: int, read: int, *, aggregate: bool, cached: bool
) -> None:
    cap = price_cap(prices, limit_rows=rows, rows_read_estimate=read, aggregate=aggregate)
    most = price_of(prices, rows=rows, rows_read=rows_read_allowed(read), aggregate=aggregate, cached=cached)
    assert 0 <= most <= cap <= prices.per_query_max


@given(prices=price_lists(), rows=_ROWS, read=_READ, cached=st.booleans())
def test_the_figures_of_a_receipt_give_its_price_again(
    prices: PriceList, rows: int, read: int, *, cached: bool
) -> None:
    f = price_figures(prices, rows=rows, rows_read=read, cached=cached)
    reading = -(-f["rows_read"] * f["per_million_rows_read_mc"] // 1_000_000)
    whole = min(f["base_mc"] + f["rows"] * f["per_row_mc"] + reading, f["per_query_max_mc"])
    assert price_of(prices, rows=rows, rows_read=read, cached=cached) == math.ceil(whole * Decimal(f["share"]))


def test_the_version_changes_with_any_figure_and_with_nothing_else() -> None:
    assert price_version(PriceList()) == price_version(PriceList(per_query=1.0))
    assert price_version(PriceList()) != price_version(PriceList(per_row=0.001))
    assert len(price_version(PLAIN)) == 12


def test_credits_are_shown_as_decimals_only_when_they_have_some() -> None:
    assert repr(credits(1000)) == "1"
    assert repr(credits(1500)) == "1.5"
    assert repr(credits(-500)) == "-0.5"
    assert repr(credits(0)) == "0"


@given(st.integers(0, 10**15))
def test_an_amount_shown_and_read_back_is_the_same(mc: int) -> None:
    assert to_millicredits(credits(mc)) == mc


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "NaN",
        "-Infinity",
        -1,
        -0.001,
        0.0001,
        "1.0005",
        1e300,
        10**13,
        True,
        None,
        "",
        "ten",
        [],
    ],
)
def test_amounts_that_no_ledger_could_hold_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="credits"):
        to_millicredits(value)


@pytest.mark.parametrize(("value", "mc"), [(1, 1000), (0.1, 100), ("2.5", 2500), (Decimal("0.001"), 1), (0, 0)])
def test_amounts_are_read_exactly(value: object, mc: int) -> None:
    assert to_millicredits(value) == mc
