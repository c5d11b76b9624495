"""GET /v1/datasets: what can be queried, how, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from common.datasets import Dataset, PriceList
from common.errors import NotFound
from common.postgres import Pool
from common.prices import credits as in_credits
from gateway.api_keys import caller_with
from gateway.published_views import published
from gateway.query_columns import Field, fields_of
from gateway.roles import ADMIN_READERS, Caller
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
Asking = Annotated[Caller, Depends(caller_with("query", readers=ADMIN_READERS))]

_FRESHNESS = "SELECT dataset, version, fresh_at FROM ingest.dataset_freshness"


@dataclass(frozen=True)
class Freshness:
    version: int = 0
    loaded_at: datetime | None = None


@router.get("")
async def get_datasets(request: Request, _caller: Asking) -> Response:
    """Every dataset: columns, operators, price and when it was last loaded."""
    gateway = gateway_of(request)
    fresh = await _freshness(gateway.postgres)
    return _json([_document(dataset, fresh.get(name, Freshness())) for name, dataset in gateway.datasets.items()])


@router.get("/{name}")
async def get_dataset(request: Request, _caller: Asking, name: str) -> Response:
    """One dataset, with the number of rows that a query without filters would count."""
    gateway = gateway_of(request)
    dataset = gateway.datasets.get(name)
    if dataset is None:
        raise NotFound
    fresh = (await _freshness(gateway.postgres)).get(name, Freshness())
    return _json(_document(dataset, fresh) | {"rows": await _rows(dataset, gateway)})


async def _rows(dataset: Dataset, gateway: Gateway) -> int:
    return await gateway.warehouse.count(dataset.name)


async def _freshness(postgres: Pool) -> dict[str, Freshness]:
    async with published("The state of datasets"):
        rows = await postgres.fetch(_FRESHNESS)
    return {row["dataset"]: Freshness(row["version"], row["fresh_at"]) for row in rows}


def _document(dataset: Dataset, fresh: Freshness) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "description": dataset.description,
        "columns": [_column(field, dataset) for field in fields_of(dataset).values()],
        "identity": dataset.identity,
        "price": _price(dataset.price),
        "freshness": {"version": fresh.version, "loaded_at": fresh.loaded_at},
    }


def _column(field: Field, dataset: Dataset) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.column.type,
        "operators": field.operators,
        "fuzzy": field.kind == "string",
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
        "cached": price.cached,
    }


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str), media_type="application/json")
