import pytest

from gateway.query_formats import coding_of, completed, form_of
from gateway.query_request import QueryRequest


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("text/html, text/csv;q=0.9, */*;q=0.1", "csv"),
        ("text/csv;q=0.2, application/x-ndjson;q=0.8", "ndjson"),
        ("application/vnd.apache.parquet", "parquet"),
        ("APPLICATION/VND.APACHE.ARROW.STREAM ; q=1", "arrow"),
        ("text/csv;q=0, application/json", "json"),
        ("text/csv;q=nan, text/csv;q=x", "json"),
        ("," * 5000, "json"),
    ],
)
def test_accept_names_the_form(accept: str, name: str) -> None:
    assert form_of(QueryRequest(), accept).name == name


def test_the_body_has_the_last_word() -> None:
    assert form_of(QueryRequest(format="arrow"), "text/csv").name == "arrow"


def test_defaults_are_those_of_the_form() -> None:
    json, csv = completed(QueryRequest(), ""), completed(QueryRequest(format="csv"), "")
    assert (json.format, json.limit, json.count) == ("json", 100, "exact")
    assert (csv.format, csv.limit, csv.count) == ("csv", 1_000_000, "none")
    assert completed(QueryRequest(limit=100, count="exact"), "application/json") == json


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("br", None),
    ],
)
def test_the_coding_is_one_that_the_client_wants(accepted: str, coding: str | None) -> None:
    assert coding_of(accepted) == coding
