"""GET /v1/datasets: what can be queried, how, and for how much."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from common.datasets import Dataset, PriceList
from common.errors import NotFound
from common.ids import new_id
from common.prices import credits as in_credits
from gateway.api_keys import caller_with
from gateway.query_columns import Field, fields_of
from gateway.query_plan import Terms, plan_query
from gateway.query_request import QueryRequest
from gateway.query_versions import Freshness
from gateway.roles import ADMIN_READERS, Caller, datasets_of
from gateway.wiring import gateway_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Asking = Annotated[Caller, Depends(caller_with("query", readers=ADMIN_READERS))]


@router.get("")
async def get_datasets(request: Request, caller: Asking) -> Response:
    """Every dataset you may query: columns, operators, price and when it was last loaded."""
    gateway = gateway_of(request)
    fresh = await gateway.versions.all()
    granted = datasets_of(caller, gateway.datasets)
    return _json([_document(one, fresh.get(name, Freshness()), caller) for name, one in granted.items()])


@router.get("/{name}")
async def get_dataset(request: Request, caller: Asking, name: str) -> Response:
    """One dataset, with the number of rows that a query without filters would count."""
    gateway = gateway_of(request)
    granted = datasets_of(caller, gateway.datasets)
    if name not in granted:
        raise NotFound
    fresh = (await gateway.versions.all()).get(name, Freshness())
    everything = plan_query(QueryRequest(dataset=name), granted, Terms(excluded=fresh.excluded))
    rows = await gateway.warehouse.count_of(everything, new_id())
    return _json(_document(granted[name], fresh, caller) | {"rows": rows})


def _document(dataset: Dataset, fresh: Freshness, caller: Caller) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "description": dataset.description,
        "columns": [_column(field, dataset) for field in fields_of(dataset, pii="pii" in caller.scopes).values()],
        "identity": dataset.identity,
        "price": _price(dataset.price),
        "freshness": {"version": fresh.version, "loaded_at": fresh.loaded_at},
    }


def _column(field: Field, dataset: Dataset) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.column.type,
        "operators": field.operators,
        "fuzzy": field.kind == "string" and not field.hidden,
        "masked": field.hidden,
        "sortable": field.sortable,
        "normalised_as": field.column.normalise,
        "pii": field.column.pii,
        "system": field.name not in dataset.columns,
    }


def _price(price: PriceList) -> dict[str, Any]:
    """In credits, as everywhere in the public API."""
    return {
        "per_query": in_credits(price.per_query),
        "per_row": in_credits(price.per_row),
        "per_million_rows_read": in_credits(price.per_million_rows_read),
        "per_query_max": in_credits(price.per_query_max),
        "aggregate": in_credits(price.per_query if price.aggregate is None else price.aggregate),
        "cached": price.cached,
    }


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str), media_type="application/json")
