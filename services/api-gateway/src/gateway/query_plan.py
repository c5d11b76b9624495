"""Request to plan: SQL over bound parameters, limits and the most it can cost. Pure: nothing here asks a server."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from common import prices
from common.datasets import Dataset, Datasets, PriceList
from common.errors import InvalidRequest
from common.normalise import normalise
from gateway.query_aggregate import Aggregation, aggregation_of
from gateway.query_cells import csv_cell
from gateway.query_columns import Field, fields_of
from gateway.query_filters import Conditions, Faults
from gateway.query_formats import JSON_FORM, Form
from gateway.query_masking import shown
from gateway.query_order import PLACE, Position, Term, behind, order_by, place_sql, terms_of
from gateway.query_request import QueryRequest
from gateway.query_sources import Snapshot, Source, next_in_key_order, source_of

# The gateway's ClickHouse profile allows no more, and refuses a query that asks for it.
ROWS_READ_MAX = 10_000_000_000
# Beside the declared columns only this one is in an answer unasked; row_no and upload_id are on request.
_SHOWN_SYSTEM_COLUMN = "ingest_ts"


@dataclass(frozen=True)
class Terms:
    """What a plan depends on besides the request: who asks, since when, and what was promised."""

    timeout_s: float = 30
    stream_timeout_s: float = 300
    rows_read_max: int = ROWS_READ_MAX
    pii: bool = True
    excluded: tuple[str, ...] = ()  # uploads that are being undone
    form: Form = JSON_FORM
    position: Position | None = None  # of the cursor
    prices: PriceList | None = None  # of the quote; else the dataset's
    ceiling: int | None = None  # millicredits, of the quote


@dataclass(frozen=True)
class QueryPlan:
    """A query as the warehouse runs it. `settings` are ClickHouse limits, only ever lower than its profile's."""

    dataset: str
    columns: tuple[str, ...]
    sql: str
    count_sql: str | None  # None: the caller wants no total, or has it from the first page
    parameters: Mapping[str, Any]
    settings: Mapping[str, int]
    limit: int
    offset: int
    one_row_at_most: bool
    price_list: PriceList
    price_cap: int  # millicredits; this is reserved
    counts_rows_read: bool  # the price depends on them
    form: Form = JSON_FORM
    aggregate: bool = False
    scans: bool = True  # reads more than a few keys
    places: bool = False  # each row ends with where it stands
    short: bool = False  # a page may have fewer rows than its limit and not be the last
    position: Position | None = None
    total: int | None = None  # known from the first page

    @cached_property
    def digest(self) -> str:
        """Of all that its answer depends on besides the dataset's version: columns as the caller sees them included."""
        facts = [self.sql, self.count_sql, dict(self.parameters), dict(self.settings)]
        return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()

    def price(self, rows: int, rows_read: int, *, cached: bool = False) -> int:
        """What the answer costs, in millicredits, never more than was reserved. Rows read for the total are free."""
        whole = prices.price_of(
            self.price_list, rows=rows, rows_read=rows_read, aggregate=self.aggregate, cached=cached
        )
        return min(whole, self.price_cap)


@dataclass(frozen=True)
class _Shape:
    """SELECT, where the rows come from, their order."""

    columns: tuple[str, ...]
    sql: str
    count_sql: str
    places: bool
    short: bool = False


def plan_query(ask: QueryRequest, datasets: Datasets, terms: Terms | None = None) -> QueryPlan:
    """Raises InvalidRequest with every fault and its path, or QueryTooExpensive when the ceiling cannot cover it."""
    terms = terms or Terms()
    dataset = dataset_named(ask.dataset, datasets)
    fields = fields_of(dataset, pii=terms.pii)
    faults = Faults()
    conditions = Conditions(dataset, fields, faults, _region(ask, dataset))
    _filter(ask, conditions)
    limit = _limit(ask, terms.form, faults)
    snapshot = Snapshot(
        conditions.bind("DateTime64(6, 'UTC')", terms.position.as_of) if terms.position else None,
        conditions.bind("Array(String)", list(terms.excluded)) if terms.excluded else None,
    )
    source = source_of(conditions, snapshot)
    if ask.aggregate is None:
        shape = _rows(ask, conditions, source, snapshot, limit, terms)
    else:
        shape = _groups(ask, aggregation_of(ask.aggregate, fields, faults), source, terms, faults)
    faults.raise_if_any()
    price = terms.prices or dataset.price
    cap = _price_cap(price, ask, limit, terms.ceiling)
    exact = (ask.count or ("none" if terms.form.streamed else "exact")) == "exact"
    known = terms.position.total if terms.position is not None and exact else None
    return QueryPlan(
        dataset=dataset.name,
        columns=shape.columns,
        sql=shape.sql,
        count_sql=shape.count_sql if exact and known is None else None,
        parameters={**conditions.parameters, "limit": limit, "offset": ask.offset},
        settings=_limits(price, cap, limit, terms, aggregate=ask.aggregate is not None),
        limit=limit,
        offset=ask.offset,
        one_row_at_most=source.one_row_at_most and ask.aggregate is None,
        price_list=price,
        price_cap=cap,
        counts_rows_read=bool(price.per_million_rows_read),
        form=terms.form,
        aggregate=ask.aggregate is not None,
        scans=not source.by_key,
        places=shape.places,
        short=shape.short,
        position=terms.position,
        total=known,
    )


def dataset_named(name: str, datasets: Datasets) -> Dataset:
    dataset = datasets.get(name)
    if dataset is None:
        raise InvalidRequest(details=[{"path": "dataset", "error": f"one of: {', '.join(datasets)}"}])
    return dataset


def _filter(ask: QueryRequest, conditions: Conditions) -> None:
    for name, asked in ask.filters.items():
        conditions.filter(name, asked)
    for name, ends in ask.range.items():
        conditions.range(name, ends)
    for name, fuzzy in ask.fuzzy.items():
        conditions.fuzzy(name, fuzzy)


def _region(ask: QueryRequest, dataset: Dataset) -> str:
    """The region of phone numbers without a +, as in a row: that of its country, else the dataset's."""
    for name, column in dataset.columns.items():
        asked = ask.filters.get(name)
        if column.type == "country" and isinstance(asked, str):
            known = normalise(column, asked, region=dataset.default_region)
            return known if isinstance(known, str) else dataset.default_region
    return dataset.default_region


def _limit(ask: QueryRequest, form: Form, faults: Faults) -> int:
    if ask.limit is not None and ask.limit > form.limit_max:
        faults.add("limit", f"at most {form.limit_max} for {form.name}")
    if form.streamed and ask.cursor is not None:
        faults.add("cursor", "only json has pages; the other formats stream up to 1,000,000 rows")
    if ask.cursor is not None and ask.offset:
        faults.add("offset", "a cursor says where the page begins: leave the offset out")
    if ask.cursor is not None and ask.aggregate is not None:
        faults.add("cursor", "an aggregation has no cursor: use offset")
    return form.limit_default if ask.limit is None else ask.limit


def _rows(  # noqa: PLR0917 - what a page is made of
    ask: QueryRequest, conditions: Conditions, source: Source, snapshot: Snapshot, limit: int, terms: Terms
) -> _Shape:
    fields, faults = conditions.fields, conditions.faults
    names = tuple(_columns(ask.select, conditions.dataset, fields, faults))
    order = terms_of(ask.sort, fields, faults)
    if faults.found:
        return _Shape(names, "", "", places=False)
    count_sql = f"SELECT count() {source.sql}"  # of all pages
    if terms.position is not None:
        source = _behind(terms.position, order, conditions, snapshot, limit)
    places = not terms.form.streamed and not source.one_row_at_most
    sql = _select(names, fields, source, order, ask, terms, places=places)
    return _Shape(names, sql, count_sql, places=places, short=source.short)


def _behind(
    position: Position, order: Sequence[Term], conditions: Conditions, snapshot: Snapshot, limit: int
) -> Source:
    if order or conditions.sql:
        conditions.add(behind(order, position, conditions))
        return source_of(conditions, snapshot)
    return next_in_key_order(conditions, snapshot, behind(order, position, conditions), limit)


def _select(  # noqa: PLR0917 - the parts of a SELECT, in their order
    names: Sequence[str],
    fields: Mapping[str, Field],
    source: Source,
    order: Sequence[Term],
    ask: QueryRequest,
    terms: Terms,
    *,
    places: bool,
) -> str:
    listed = [fields[name].sql for name in names]
    final = [_cell(fields[name], ask, terms) for name in names]
    extra = [place_sql(order)] if places else []
    page = f"{source.sql} ORDER BY {order_by(order)} LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}"
    inner = f"SELECT {', '.join([*listed, *extra])} {page}"
    if final == listed:
        return inner
    # Outside, because an alias with a column's name would take its place in WHERE and ORDER BY.
    changed = [sql if sql == field else f"{sql} AS {field}" for sql, field in zip(final, listed, strict=True)]
    return f"SELECT {', '.join([*changed, *([PLACE] if places else [])])} FROM ({inner})"  # noqa: S608 - names of ours


def _cell(field: Field, ask: QueryRequest, terms: Terms) -> str:
    """The column as this caller sees it, in this form."""
    sql = shown(field)
    return csv_cell(sql) if terms.form.name == "csv" and not ask.csv_raw and field.free_text else sql


def _groups(ask: QueryRequest, found: Aggregation, source: Source, terms: Terms, faults: Faults) -> _Shape:
    if ask.select is not None:
        faults.add("select", "an aggregation answers its groups and metrics: leave select out")
    order = found.order_by(ask.sort, faults)
    inner = found.inner_sql(source.sql)
    csv = terms.form.name == "csv" and not ask.csv_raw
    ordered = f" ORDER BY {order}" if order else ""
    sql = f"SELECT {found.listed(csv_cell if csv else None)} FROM ({inner}){ordered}"  # noqa: S608 - names of ours
    return _Shape(
        found.columns,
        f"{sql} LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
        f"SELECT count() FROM ({inner})",  # noqa: S608 - as above
        places=False,
    )


def _columns(
    select: Sequence[str] | None, dataset: Dataset, fields: Mapping[str, Field], faults: Faults
) -> Sequence[str]:
    if select is None:
        return [*dataset.columns, _SHOWN_SYSTEM_COLUMN]
    for place, name in enumerate(select):
        if name not in fields:
            faults.add(f"select.{place}", "this dataset has no such column")
        elif name in select[:place]:
            faults.add(f"select.{place}", "this column is selected twice")
    return select


def _price_cap(price: PriceList, ask: QueryRequest, limit: int, ceiling: int | None) -> int:
    # What a query will read is not known before it has run, so the whole maximum is held.
    known = not price.per_million_rows_read
    cap = prices.price_cap(price, limit_rows=limit, aggregate=ask.aggregate is not None)
    cap = cap if known else price.per_query_max
    return min(one for one in (cap, ask.max_credits, ceiling) if one is not None)


def _limits(price: PriceList, cap: int, limit: int, terms: Terms, *, aggregate: bool) -> dict[str, int]:
    """The hold as limits in ClickHouse: the query cannot cost more than was held, it is stopped instead."""
    allowed = prices.allowed_by(price, cap, limit_rows=limit, aggregate=aggregate)
    seconds = terms.stream_timeout_s if terms.form.streamed else terms.timeout_s
    limits = {"max_execution_time": max(1, math.ceil(seconds))}
    if allowed.rows is not None and allowed.rows < limit:
        limits["max_result_rows"] = allowed.rows
    if allowed.rows_read is not None:
        limits["max_rows_to_read"] = min(allowed.rows_read, terms.rows_read_max)
    elif terms.rows_read_max < ROWS_READ_MAX:
        limits["max_rows_to_read"] = terms.rows_read_max
    return limits
