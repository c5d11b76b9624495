"""Request to plan: SQL over bound parameters, limits and the most it can cost. Pure: nothing here asks a server."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import prices
from common.datasets import Dataset, Datasets, PriceList
from common.errors import InvalidRequest
from common.normalise import normalise
from gateway.query_columns import Field, fields_of
from gateway.query_filters import Conditions, Faults
from gateway.query_request import QueryRequest

SORTS_MAX = 10
# The gateway's ClickHouse profile allows no more, and refuses a query that asks for it.
_ROWS_READ_MAX = 10_000_000_000
# Beside the declared columns only this one is in an answer unasked; row_no and upload_id are on request.
_SHOWN_SYSTEM_COLUMN = "ingest_ts"


@dataclass(frozen=True)
class QueryPlan:
    """A query as the warehouse runs it. `settings` are ClickHouse limits, only ever lower than its profile's."""

    dataset: str
    columns: tuple[str, ...]
    sql: str
    count_sql: str | None  # None: the caller wants no total
    parameters: Mapping[str, Any]
    settings: Mapping[str, int]
    limit: int
    offset: int
    one_row_at_most: bool
    price_list: PriceList
    price_cap: int  # millicredits; this is reserved
    counts_rows_read: bool  # the price depends on them

    def price(self, rows: int, rows_read: int) -> int:
        """What the answer costs, in millicredits, never more than was reserved. Rows read for the total are free."""
        return min(prices.price_of(self.price_list, rows=rows, rows_read=rows_read), self.price_cap)


def plan_query(ask: QueryRequest, datasets: Datasets, *, timeout_s: float) -> QueryPlan:
    """Raises InvalidRequest with every fault and its path, or QueryTooExpensive when max_credits cannot cover it."""
    dataset = dataset_named(ask.dataset, datasets)
    fields = fields_of(dataset)
    faults = Faults()
    conditions = Conditions(dataset, fields, faults, _region(ask, dataset))
    for name, asked in ask.filters.items():
        conditions.filter(name, asked)
    for name, ends in ask.range.items():
        conditions.range(name, ends)
    for name, fuzzy in ask.fuzzy.items():
        conditions.fuzzy(name, fuzzy.query)
    columns = _columns(ask.select, dataset, fields, faults)
    order = _order(ask.sort, fields, faults)
    faults.raise_if_any()
    cap = _price_cap(dataset.price, ask)
    # FINAL: one row per identity, the newest, merged or not. The tie-break makes pages stable.
    source = f"FROM {dataset.name} FINAL{conditions.where()}"
    listed = ", ".join(fields[name].sql for name in columns)
    return QueryPlan(
        dataset=dataset.name,
        columns=tuple(columns),
        sql=f"SELECT {listed} {source} ORDER BY {order} LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
        count_sql=f"SELECT count() {source}" if ask.count == "exact" else None,
        parameters={**conditions.parameters, "limit": ask.limit, "offset": ask.offset},
        settings=_limits(dataset.price, cap, ask.limit, timeout_s),
        limit=ask.limit,
        offset=ask.offset,
        one_row_at_most=conditions.one_row_at_most,
        price_list=dataset.price,
        price_cap=cap,
        counts_rows_read=bool(dataset.price.per_million_rows_read),
    )


def dataset_named(name: str, datasets: Datasets) -> Dataset:
    dataset = datasets.get(name)
    if dataset is None:
        raise InvalidRequest(details=[{"path": "dataset", "error": f"one of: {', '.join(datasets)}"}])
    return dataset


def _region(ask: QueryRequest, dataset: Dataset) -> str:
    """The region of phone numbers without a +, as in a row: that of its country, else the dataset's."""
    for name, column in dataset.columns.items():
        asked = ask.filters.get(name)
        if column.type == "country" and isinstance(asked, str):
            known = normalise(column, asked, region=dataset.default_region)
            return known if isinstance(known, str) else dataset.default_region
    return dataset.default_region


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


def _order(sort: str | Sequence[str] | None, fields: Mapping[str, Field], faults: Faults) -> str:
    wanted = [sort] if isinstance(sort, str) else list(sort or ())
    if len(wanted) > SORTS_MAX:
        faults.add("sort", f"expected at most {SORTS_MAX} columns")
        return ""
    # Columns without a value come last in both directions.
    terms = [
        _term(f"sort.{place}" if len(wanted) > 1 else "sort", one, fields, faults) for place, one in enumerate(wanted)
    ]
    return ", ".join([*terms, "dedupe_key"])


def _term(path: str, asked: str, fields: Mapping[str, Field], faults: Faults) -> str:
    name, _, direction = asked.strip().partition(" ")
    direction = direction.strip().upper() or "ASC"
    field = fields.get(name)
    if field is None or direction not in {"ASC", "DESC"}:
        faults.add(path, 'expected "column", "column ASC" or "column DESC"')
        return ""
    if not field.sortable:
        faults.add(path, "a json or list column cannot be sorted by")
    return f"{field.sql} {direction} NULLS LAST"


def _price_cap(price: PriceList, ask: QueryRequest) -> int:
    # What a query will read is not known before it has run, so the whole maximum is held.
    known = not price.per_million_rows_read
    cap = prices.price_cap(price, limit_rows=ask.limit) if known else price.per_query_max
    return cap if ask.max_credits is None else min(cap, ask.max_credits)


def _limits(price: PriceList, cap: int, limit: int, timeout_s: float) -> dict[str, int]:
    """The hold as limits in ClickHouse: the query cannot cost more than was held, it is stopped instead."""
    allowed = prices.allowed_by(price, cap, limit_rows=limit)
    limits = {"max_execution_time": max(1, math.ceil(timeout_s))}
    if allowed.rows is not None and allowed.rows < limit:
        limits["max_result_rows"] = allowed.rows
    if allowed.rows_read is not None:
        limits["max_rows_to_read"] = min(allowed.rows_read, _ROWS_READ_MAX)
    return limits
