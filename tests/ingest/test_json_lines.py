import io

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.formats.json_flat import flat_columns
from ingest.formats.json_lines import JsonLinesReader
from ingest.formats.records import Dialect, pieces
from ingest.rows import rows_of
from support.ingest_parts import column, dataset, loaded, reasons

THINGS = dataset()


def test_a_field_that_is_missing_is_null_and_takes_nothing_of_the_record_before() -> None:
    rows = loaded(
        b'{"email":"a@x.org","age":1,"source":"s"}\n{"email":"b@x.org"}\n{"age":3,"phone":"+12125550100"}\n', THINGS
    )
    assert column(rows, "email") == ["a@x.org", "b@x.org", None]
    assert column(rows, "age") == [1, None, 3]
    assert column(rows, "source") == ["s", None, None]


def test_lines_that_are_no_objects_are_rejected_one_by_one() -> None:
    lines = [
        b'{"email":"a@x.org"}',
        b"nonsense",
        b"[1]",
        b'{"email":"b@x.org"} {"email":"c@x.org"}',
        b'{"email":',
        b'"b"}',
        b'{"email":"d@x.org"}',
    ]
    rows = loaded(b"\n".join(lines), THINGS)
    assert column(rows, "email") == ["a@x.org", "d@x.org"]
    assert [reason for _, reason, _ in reasons(rows)] == ["json_syntax", "not_an_object", *["json_syntax"] * 3]


def test_numbers_and_texts_mean_the_same() -> None:
    rows = loaded(
        b'{"email":"a@x.org","age":"41","source_id":7}\n{"email":"b@x.org","age":42.0,"source_id":"x"}\n', THINGS
    )
    assert column(rows, "age") == [41, 42]
    assert column(rows, "source_id") == ["7", "x"]


def test_a_number_that_lost_digits_is_no_text() -> None:
    rows = loaded(
        b'{"email":"a@x.org","source_id":123456789012345678901234}\n{"email":"b@x.org","source_id":1.5}\n', THINGS
    )
    assert reasons(rows) == [(0, "inexact_number", "source_id")]
    assert column(rows, "source_id") == ["1.5"]


def test_nested_values_fill_json_columns_and_no_others() -> None:
    rows = loaded(
        b'{"email":"a@x.org","note":{"k":[1,"x"]}}\n{"email":"b@x.org","note":"text"}\n{"email":{"a":1}}\n', THINGS
    )
    assert column(rows, "note") == ['{"k":[1,"x"]}', '"text"']
    assert reasons(rows) == [(2, "nested_value", "email")]


def test_unknown_fields_keep_their_json_types() -> None:
    rows = loaded(b'{"email":"a@x.org","hobby":["go"],"score":1.5,"none":null}\n{"email":"b@x.org"}\n', THINGS)
    assert [orjson.loads(one) if one else None for one in rows.extra.to_pylist()] == [
        {"hobby": ["go"], "score": 1.5},
        None,
    ]


def test_unknown_fields_are_rejected_where_declared() -> None:
    rows = loaded(b'{"email":"a@x.org","hobby":1}\n{"email":"b@x.org","hobby":null}\n', dataset(extra="reject"))
    assert column(rows, "email") == ["b@x.org"]
    assert reasons(rows) == [(0, "unknown_field", "hobby")]


def test_bad_bytes_and_lone_surrogates_cost_their_line() -> None:
    rows = loaded(b'{"email":"a@x.org"}\n{"email":"\\ud800"}\n{"email":"\xff@x.org"}\n{"email":"b@x.org"}\n', THINGS)
    assert column(rows, "email") == ["a@x.org", "b@x.org"]


def test_deep_nesting_costs_its_line() -> None:
    rows = loaded(b'{"email":"a@x.org"}\n{"note":' + b"[" * 200_000 + b"\n", THINGS)
    assert reasons(rows) == [(1, "json_syntax", "")]


def test_a_key_may_differ_on_every_line() -> None:
    lines = [orjson.dumps({"email": f"u{number}@x.org", f"key{number}": number}) for number in range(5000)]
    rows = loaded(b"\n".join(lines), THINGS)
    assert len(rows) == 5000
    assert rows.extra.to_pylist()[7] == '{"key7":7}'


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
keys = st.sampled_from(["email", "mail", "age", "source", "source_id", "note", "record_ts", "other"])


@given(st.lists(st.one_of(st.dictionaries(keys, st.one_of(values, st.lists(values, max_size=2))), values), min_size=1))
def test_every_line_becomes_a_row_or_a_reject(documents: list[object]) -> None:
    lines = [_dumped(document) for document in documents]
    rows = loaded(b'{"email":"first@x.org"}\n' + b"\n".join(lines), THINGS)
    records = {fault.record for fault in rows.faults}
    numbers = set((rows.row_numbers - 1).tolist())
    assert len(rows.faults) + len(rows) == len(lines) + 1
    assert records | numbers == set(range(len(lines) + 1))


def _dumped(document: object) -> bytes:
    import json  # noqa: PLC0415 - orjson refuses the integers this is about

    return json.dumps(document, ensure_ascii=True).encode()


# Lines near the edge of what pyarrow reads as orjson does.
texts = st.sampled_from(
    ['"a"', '""', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\udc00"', '"\\u0000"', '"b\\nc"', "null", "7", "-0", "1.0", "1e2",
     "99999999999999999999", "1.5", "true", "[1]", "{}", '"2026-01-01T00:00:00Z"', "01", "NaN", "\0", '"', ""]
)  # fmt: skip
flat = st.lists(st.tuples(st.sampled_from(["email", "source", "age", "mail", "record_ts", "other"]), texts), max_size=3)
lines_near = st.one_of(
    flat.map(lambda fields: "{" + ",".join(f'"{key}":{value}' for key, value in fields) + "}"),
    st.sampled_from(["{}", "{", "}", " {}", "{} ", "{},{}", "{}{}", '{"source":[{}', "{}]}", "[]", "1", '{"source":"',
                     '"}']),
)  # fmt: skip
plain = st.sampled_from(['{"source":"a","age":1}', '{"source":"b"}', '{"email":"c@x.org","age":null}'])


@settings(max_examples=300)
@given(st.lists(st.one_of(plain, plain, plain, lines_near), min_size=1, max_size=8))
def test_flat_objects_are_read_as_one_by_one(lines: list[str]) -> None:
    text = "\n".join(lines).encode()
    reader = JsonLinesReader(THINGS)
    for piece in pieces(io.BytesIO(text), Dialect(carriage_returns=False), at_most=100):
        fast, slow = (rows_of(read(piece), THINGS) for read in (reader, reader.one_by_one))
        assert fast.faults == slow.faults
        assert fast.row_numbers.tolist() == slow.row_numbers.tolist()
        assert {name: column(fast, name) for name in THINGS.columns} == {
            name: column(slow, name) for name in THINGS.columns
        }
        assert (fast.extra.to_pylist(), fast.dropped) == (slow.extra.to_pylist(), slow.dropped)


def test_people_are_read_the_fast_way() -> None:
    lines = [orjson.dumps({"email": f"u{number}@x.org", "age": number, "source": None}) for number in range(100)]
    (piece,) = pieces(io.BytesIO(b"\n".join(lines)), Dialect(carriage_returns=False), at_most=100)
    assert flat_columns(piece, THINGS) is not None
