"""Flags of `bigdata query` as the body that they stand for."""

from typing import Any

import pytest

from bigdata_client.command import Stop
from bigdata_client.command.ask import (
    aggregate_of,
    body_from_file,
    filters_of,
    fuzzy_of,
    looks_typed,
    names_of,
    ranges_of,
)


@pytest.mark.parametrize(
    ("conditions", "filters"),
    [
        (["country=IN"], {"country": "IN"}),
        (["city=Delhi", "city=Mumbai"], {"city": ["Delhi", "Mumbai"]}),
        (["age>=18", "age<30"], {"age": {"gte": 18, "lt": 30}}),
        (["age=18", "age!=3"], {"age": {"eq": 18, "ne": 3}}),
        (["email^=ann", "name~=oh"], {"email": {"prefix": "ann"}, "name": {"contains": "oh"}}),
        (["phone:is_null=true"], {"phone": {"is_null": True}}),
        (["age:in=[1, 2]"], {"age": [1, 2]}),
        (["phone=+4420"], {"phone": "+4420"}),
        (["day=2026-01-01"], {"day": "2026-01-01"}),
        (["a=x=y"], {"a": "x=y"}),
        (['zip="10001"'], {"zip": "10001"}),
        (["json={}"], {"json": "{}"}),
        (["empty="], {"empty": ""}),
        ([], {}),
    ],
)
def test_conditions_are_filters(conditions: list[str], filters: dict[str, Any]) -> None:
    assert filters_of(conditions) == filters


def test_a_text_column_takes_digits_as_text() -> None:
    assert filters_of(["zip=10001", "age=3", "zip:is_null=false"], {"zip"}) == {
        "zip": {"eq": "10001", "is_null": False},
        "age": 3,
    }
    assert looks_typed(["zip=10001"])
    assert not looks_typed(["city=Delhi", 'zip="10001"'])


@pytest.mark.parametrize("wrong", ["", "country", "=IN", "first name=Ann"])
def test_what_is_no_condition_says_how_to_write_one(wrong: str) -> None:
    with pytest.raises(Stop, match="write FIELD=VALUE"):
        filters_of([wrong])


def test_ranges_may_be_open_at_one_end() -> None:
    assert ranges_of(["ts=2026-01-01..2026-02-01", "age=18..", "n=..5"]) == {
        "ts": {"from": "2026-01-01", "to": "2026-02-01"},
        "age": {"from": 18},
        "n": {"to": 5},
    }
    for wrong in ("ts", "ts=5", "ts=.."):
        with pytest.raises(Stop, match=r"FROM\.\.TO"):
            ranges_of([wrong])


def test_fuzzy_may_have_a_threshold_and_an_address_is_none() -> None:
    assert fuzzy_of(["name=prath", "name2=jon@0.6", "email=ann@example.com"]) == {
        "name": {"query": "prath"},
        "name2": {"query": "jon", "threshold": 0.6},
        "email": {"query": "ann@example.com"},
    }
    with pytest.raises(Stop, match="FIELD=TEXT"):
        fuzzy_of(["name"])


def test_an_aggregation_counts_when_nothing_else_is_asked() -> None:
    assert aggregate_of(["country,city"], []) == {"group_by": ["country", "city"], "metrics": {"n": "count()"}}
    assert aggregate_of([], ["people=uniq(email)"]) == {"group_by": [], "metrics": {"people": "uniq(email)"}}
    assert aggregate_of([], []) is None
    with pytest.raises(Stop, match="NAME=FUNCTION"):
        aggregate_of([], ["count()"])
    assert names_of(["a, b", "c,"]) == ["a", "b", "c"]


def test_a_body_that_is_no_object_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "body.json"
    for text, said in (("[1]", "expected an object"), ("{", "not JSON")):
        file.write_text(text)
        with pytest.raises(Stop, match=said):
            body_from_file(str(file))
    file.write_text('{"dataset": "people"}')
    assert body_from_file(str(file)) == {"dataset": "people"}
