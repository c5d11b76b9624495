"""What can be queried, how, and for how much."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bigdata_client.call import Call, document, documents


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    operators: tuple[str, ...] = ()
    fuzzy: bool = False
    sortable: bool = False
    normalised_as: str | None = None
    pii: bool = False
    system: bool = False


@dataclass(frozen=True)
class Price:
    """In credits; `cached` is the share of the price that a cached answer costs."""

    per_query: float = 0.0
    per_row: float = 0.0
    per_million_rows_read: float = 0.0
    per_query_max: float = 0.0
    cached: float = 1.0


@dataclass(frozen=True)
class Freshness:
    version: int = 0
    loaded_at: datetime | None = None


@dataclass(frozen=True)
class Dataset:
    """`rows` is counted when one dataset is asked for, not in the list."""

    name: str
    description: str = ""
    columns: tuple[Column, ...] = ()
    identity: tuple[tuple[str, ...], ...] = ()
    price: Price = Price()
    freshness: Freshness = Freshness()
    rows: int | None = None


def datasets() -> Call[tuple[Dataset, ...]]:
    return Call("GET", "/v1/datasets", documents(Dataset))


def dataset(name: str) -> Call[Dataset]:
    return Call("GET", f"/v1/datasets/{name}", document(Dataset))
