"""Plans of queries on datasets that nobody has to load."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from common.datasets import Dataset, Datasets
from common.errors import InvalidRequest
from gateway.query_plan import QueryPlan, Terms, plan_query
from gateway.query_request import QueryRequest

COLUMNS = {
    "email": {"type": "string", "normalise": "email"},
    "phone": {"type": "string", "normalise": "phone"},
    "city": {"type": "string", "normalise": "text"},
    "country": {"type": "country"},
    "age": {"type": "integer"},
    "score": {"type": "float"},
    "paid": {"type": "decimal(10, 2)"},
    "active": {"type": "boolean"},
    "born": {"type": "date"},
    "record_ts": {"type": "timestamp"},
    "tags": {"type": "json"},
    "size": {"type": "enum", "values": ["small", "large"]},
    "marks": {"type": "list(integer)"},
}
_PLACEHOLDER = re.compile(r"\{(\w+):[^}]*\}")
_OUR_TEXTS = {"people", "email", "UTC", "***", "*", "=", "+", "-", "@"}


def datasets(**price: Any) -> Datasets:
    people = Dataset.model_validate(
        {"name": "people", "identity": ["email", "phone"], "columns": COLUMNS, "price": price or {"per_query": 1}}
    )
    flights = Dataset.model_validate(
        {
            "name": "flights",
            "identity": [["carrier", "flight"]],
            "columns": {"carrier": {"type": "string"}, "flight": {"type": "integer"}, "hour": {"type": "timestamp"}},
        }
    )
    return Datasets({"people": people, "flights": flights})


def plan(price: Mapping[str, Any] | None = None, /, terms: Terms | None = None, **body: Any) -> QueryPlan:
    ask = QueryRequest.model_validate(body)
    return plan_query(ask, datasets(**(price or {})), terms)


def faults(*, terms: Terms | None = None, **body: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refusal:
        plan(terms=terms, **body)
    return {fault["path"]: fault["error"] for fault in refusal.value.details}


def where(planned: QueryPlan) -> str:
    return planned.sql.partition(" WHERE ")[2].partition(" ORDER BY ")[0]


def assert_only_our_sql(planned: QueryPlan) -> None:
    """Names, numbers and texts of ours, and bound values: nothing that a caller wrote."""
    for sql in (planned.sql, planned.count_sql or ""):
        assert set(_PLACEHOLDER.findall(sql)) <= planned.parameters.keys()
        skeleton = _PLACEHOLDER.sub("?", sql).replace("`", "")
        assert re.fullmatch(r"[A-Za-z0-9_ ,.()=<>!?+/*@'\[\]-]*", skeleton)
        assert set(re.findall(r"'([^']*)'", skeleton)) <= _OUR_TEXTS
