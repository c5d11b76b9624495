from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.clickhouse_http.refusals import EngineError, http_status
from devstack.clickhouse_http.sql_text import describe, split_insert, tokens


def words(sql: bytes) -> list[bytes]:
    return [token.text for token in tokens(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SELECT 'a''b' -- x\n, \"c\"", [b"SELECT", b"'a''b'", b",", b'"c"']),
        (b"a /* b /* c */ d */ e", [b"a", b"e"]),
        (b"a // b\nc # d\ne #f", [b"a", b"c", b"e", b"#", b"f"]),
        (b"'\\'' `\\`` $x$ ' $x$ 1a", [b"'\\''", b"`\\``", b"$x$ ' $x$", b"1a"]),
        (b"'open", [b"'", b"open"]),
        (b"/* open", []),
    ],
)
def test_tokens_are_cut_as_the_engine_cuts_them(sql: bytes, expected: list[bytes]) -> None:
    assert words(sql) == expected


@pytest.mark.parametrize(
    ("sql", "kind", "form"),
    [
        (b"SELECT 1 FORMAT CSV", b"SELECT", "CSV"),
        (b"((SELECT 1)) format JSON;", b"SELECT", "JSON"),
        (b"SELECT format FROM t", b"SELECT", None),
        (b"SELECT 1 AS format FORMAT TSV SETTINGS a = 1", b"SELECT", "TSV"),
        (b"SELECT 'FORMAT CSV'", b"SELECT", None),
        (b"SELECT * FROM (SELECT 1 FORMAT CSV)", b"SELECT", None),
        (b"/* x */ with 1 as a select a", b"WITH", None),
        (b"", b"", None),
    ],
)
def test_a_statement_is_known_by_its_first_word_and_last_clause(sql: bytes, kind: bytes, form: str | None) -> None:
    statement = describe(list(tokens(sql)))
    assert (statement.kind, statement.format) == (kind, form)


@pytest.mark.parametrize(
    ("sql", "form", "statement", "data"),
    [
        (b"INSERT INTO t (a) FORMAT Native\n\n\x01", "Native", b"INSERT INTO t (a) ", b"\n\x01"),
        (b"INSERT INTO t SETTINGS x=1 FORMAT CSV 1,2", "CSV", b"INSERT INTO t SETTINGS x=1 ", b"1,2"),
        (b"insert into `format` (`values`) values (1)", "Values", b"insert into `format` (`values`) ", b"(1)"),
        (b"INSERT INTO t (format, values) FORMAT TSV\r\nx", "TSV", b"INSERT INTO t (format, values) ", b"x"),
        (b"INSERT INTO t SELECT 1", None, b"INSERT INTO t SELECT 1", b""),
    ],
)
def test_an_insert_is_cut_where_its_data_begins(sql: bytes, form: str | None, statement: bytes, data: bytes) -> None:
    head = split_insert(sql)
    assert head is not None
    assert (head.format, sql[: head.statement_end], sql[head.data_at :]) == (form, statement, data)


def test_an_insert_without_data_clause_is_noticed() -> None:
    assert split_insert(b"INSERT INTO t (a)") is None


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(sql: bytes) -> None:
    found = list(tokens(sql))
    assert all(sql[token.start : token.end] == token.text for token in found)
    describe(found)
    split_insert(b"INSERT INTO " + sql)


def test_engine_errors_lose_their_echo_and_keep_their_code() -> None:
    doubled = "Code: 452. DB::Exception: Code: 452. DB::Exception: Too much. (X) (version 26.9.2.1). (X)"
    error = EngineError(doubled)
    assert (str(error), error.code) == ("Code: 452. DB::Exception: Too much. (X)", 452)
    assert http_status(EngineError("something else").code) == 500
