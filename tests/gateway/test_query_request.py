import json
from typing import Any

import pytest

from common.errors import ClientError, InvalidRequest, MalformedJson
from common.http import parse_body
from gateway.query_request import QueryRequest


def parse(**body: Any) -> QueryRequest:
    return parse_body(QueryRequest, json.dumps(body).encode())


def paths(error: ClientError) -> set[str]:
    return {fault["path"] for fault in error.details}


def test_an_empty_body_asks_for_the_first_hundred_people() -> None:
    ask = parse()
    assert (ask.dataset, ask.limit, ask.offset, ask.count, ask.format) == ("people", None, 0, None, None)


def test_everything_the_design_shows_is_understood() -> None:
    ask = parse(
        dataset="people",
        filters={"country": "IN", "city": ["Delhi", "Mumbai"], "age": {"gte": 18}},
        range={"ingest_ts": {"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}},
        fuzzy={"first_name": {"query": "prath"}},
        select=["email", "first_name"],
        sort="ingest_ts DESC",
        limit=100,
        offset=0,
        cursor=None,
        count="exact",
        format="json",
        max_credits=5,
    )
    assert ask.max_credits == 5000


def each(field: str, values: list[Any]) -> list[tuple[dict[str, Any], str]]:
    return [({field: value}, field) for value in values]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        *each("limit", [0, -1, 10**9, 2**63, True, "5", 1.5]),
        *each("offset", [-1, 100_001, True, "0"]),
        *each("max_credits", [0, -1, True, "5", 0.0001, 10**30, []]),
        ({"count": "some"}, "count"),
        ({"format": "xml"}, "format"),
        ({"select": []}, "select"),
        ({"select": "email"}, "select"),
        ({"select": [1]}, "select.0"),
        ({"sort": {"email": "DESC"}}, "sort.str"),
        ({"filters": []}, "filters"),
        ({"range": {"age": 5}}, "range.age"),
        ({"range": {"age": {"from": 1, "until": 2}}}, "range.age.until"),
        ({"fuzzy": {"city": "x"}}, "fuzzy.city"),
        ({"fuzzy": {"city": {"query": ""}}}, "fuzzy.city.query"),
        ({"fuzzy": {"city": {"query": "del", "threshold": 1.5}}}, "fuzzy.city.threshold"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": 5}, "cursor"),
        ({"quote_id": ["x"]}, "quote_id"),
        ({"wait_ms": -1}, "wait_ms"),
        ({"csv_raw": "yes"}, "csv_raw"),
        ({"aggregate": {"group_by": ["country"]}}, "aggregate.metrics"),
        ({"aggregate": {"metrics": {}}}, "aggregate.metrics"),
        ({"dataset": 5}, "dataset"),
        ({"role": "admin"}, "role"),
        ({"credits": 0}, "credits"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(body: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**body)
    assert path in paths(refusal.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nul",
        b'{"limit": 1',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b'{"filters": ' * 100_000,
        b'{"limit": NaN}',
        b'{"limit": Infinity}',
        b'{"filters": {"age": 1e400}}',
        b'{"filters": {"age": ' + b"9" * 5000 + b"}}",
        b'{"limit": 1, "limit": 2}',
        b'{"filters": {"city": "\\ud800"}}',
        b'{"filters": {"city": "a\\u0000b"}}',
        b'{"filters": {"\\ud800": "x"}}',
        b"[]",
        b'"people"',
        b"null",
    ],
)
def test_bytes_that_frameworks_let_through_are_refused_as_the_clients_fault(raw: bytes) -> None:
    with pytest.raises((InvalidRequest, MalformedJson)):
        parse_body(QueryRequest, raw)


def test_a_refusal_says_what_would_be_right_for_formats() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(format="xls")
    assert "json" in refusal.value.details[0]["error"]
