"""Queries: what is asked, what comes back, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

import httpx

from bigdata_client.call import NEXT_CURSOR, Call, document, json_of, new_key
from bigdata_client.decoding import decode
from bigdata_client.errors import BrokenAnswer

Row = dict[str, Any]


class QueryFields(TypedDict, total=False):
    """The body of POST /v1/query; docs of each field are at /docs of the gateway."""

    dataset: str
    filters: Mapping[str, Any]
    range: Mapping[str, Any]
    fuzzy: Mapping[str, Any]
    select: Sequence[str] | None
    sort: str | Sequence[str] | None
    limit: int
    offset: int
    cursor: str | None
    count: str
    aggregate: Mapping[str, Any] | None
    max_credits: float | None
    quote_id: str | None
    wait_ms: int
    csv_raw: bool


@dataclass(frozen=True)
class Metadata:
    """`response_time` is milliseconds; `total_records` is None when it was not counted."""

    query_id: str
    returned: int
    credits_used: float
    credits_remaining: float
    dataset: str = ""
    total_records: int | None = None
    response_time: float = 0.0
    cached: bool = False
    next_cursor: str | None = None
    as_of: datetime | None = None


@dataclass(frozen=True)
class QueryResult:
    """A page of rows. It iterates over them."""

    metadata: Metadata
    data: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True)
class Quote:
    """What a query will cost. With `quote_id` in it, the query costs at most `credits_max`."""

    credits_min: float
    credits_max: float
    rows_estimate: int | None = None
    quote_id: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Receipt:
    query_id: str
    state: str
    dataset: str = ""
    rows: int | None = None
    credits_held: float | None = None
    credits_used: float | None = None
    duration_ms: float | None = None
    price_version: str | None = None
    refund_reason: str | None = None
    created_at: datetime | None = None


@dataclass(frozen=True)
class Streamed:
    """A result that went somewhere else than into memory. What it cost is in the receipt of `query_id`."""

    query_id: str
    bytes_written: int
    total_records: int | None = None
    credits_reserved: float | None = None
    next_cursor: str | None = None


def body_of(ask: Mapping[str, Any] | str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A query is given as a dataset's name and fields, as a whole body, or as both: fields win."""
    asked = {"dataset": ask} if isinstance(ask, str) else dict(ask or {})
    return {**asked, **fields}


def run(body: Mapping[str, Any], key: str | None, wait_for_upload: str | None) -> Call[QueryResult]:
    return Call("POST", "/v1/query", _result, json=dict(body), headers=_headers(key, wait_for_upload))


def stream(body: Mapping[str, Any], form: str, key: str | None, wait_for_upload: str | None) -> Call[None]:
    """Its answer is read piece by piece by who sent it."""
    return Call(
        "POST",
        "/v1/query",
        lambda _: None,
        json={**body, "format": form},
        headers=_headers(key, wait_for_upload),
    )


def quote(body: Mapping[str, Any]) -> Call[Quote]:
    return Call("POST", "/v1/query/quote", document(Quote), json=dict(body))


def receipt(query_id: str) -> Call[Receipt]:
    return Call("GET", f"/v1/queries/{query_id}", document(Receipt))


def streamed(answer: httpx.Response, bytes_written: int) -> Streamed:
    total, reserved = answer.headers.get("x-total-records"), answer.headers.get("x-credits-reserved")
    return Streamed(
        query_id=answer.headers.get("x-query-id", ""),
        bytes_written=bytes_written,
        total_records=int(total) if total else None,
        credits_reserved=float(reserved) if reserved else None,
        next_cursor=answer.headers.get(NEXT_CURSOR),
    )


def following(body: Mapping[str, Any], cursor: str) -> dict[str, Any]:
    """The body that asks for the next page: the cursor says where, so that the offset does not."""
    return {**{name: value for name, value in body.items() if name != "offset"}, "cursor": cursor}


def _headers(key: str | None, wait_for_upload: str | None) -> dict[str, str]:
    # A key on every query: a retry whose first answer was lost must not be paid for twice.
    headers = {"Idempotency-Key": key or new_key()}
    return headers | ({"X-Wait-For-Upload": wait_for_upload} if wait_for_upload else {})


def _result(answer: httpx.Response) -> QueryResult:
    found = json_of(answer)
    if not isinstance(found, Mapping) or not isinstance(found.get("data"), list):
        raise BrokenAnswer("a query was answered without `metadata` and `data`")
    return QueryResult(decode(Metadata, found.get("metadata")), tuple(found["data"]))
