"""Every format and packing gives the same rows, each with its place."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pyarrow import parquet

from common.datasets import Dataset
from ingest.examine import Said, examined
from ingest.formats.layout import Unreadable
from ingest.formats.sandbox import Limits
from ingest.rows import rows_of
from ingest.source import Bytes
from support.ingest_parts import LIMITS, batches, column, dataset, loaded, reasons
from support.written import FORMATS, as_array, as_csv, as_gzip, as_parquet, as_xml, as_zip

THINGS = dataset()
ROWS = [
    {
        "email": f"a{number}@example.org",
        "age": number,
        "source": f"é <&> {number}",
        "color": "red" if number % 2 else None,
    }
    for number in range(7)
]


def shown(data: bytes, target: Dataset, filename: str = "", **how: Any) -> list[dict[str, Any]]:
    """Rows as the table would get them, in the order of their numbers."""
    found: dict[int, dict[str, Any]] = {}
    for batch in batches(data, target, filename, **how):
        rows = rows_of(batch, target)
        assert not rows.faults
        for index, number in enumerate(rows.row_numbers):
            assert number not in found
            values = {name: column(rows, name)[index] for name in target.columns}
            found[int(number)] = values | {"extra": rows.extra[index].as_py()}
    assert list(found) == list(range(1, len(found) + 1))
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("filename", FORMATS)
def test_every_format_gives_the_same_rows(filename: str) -> None:
    found = shown(FORMATS[filename](ROWS), THINGS, filename)
    given = sorted(found, key=lambda row: str(row["email"]))
    assert [(row["email"], row["age"], row["source"]) for row in given] == [
        (row["email"], row["age"], row["source"]) for row in ROWS
    ]
    assert [row["extra"] for row in given] == [None if row["color"] is None else '{"color":"red"}' for row in ROWS]


@pytest.mark.parametrize("filename", FORMATS)
def test_a_rejected_row_says_where_it_is(filename: str) -> None:
    rows: list[dict[str, Any]] = [{"email": f"{number}@example.org", "age": str(number)} for number in range(6)]
    rows[4]["age"] = "old"
    faults = [
        (batch.piece.place.line + int(batch.piece.lines[fault.record]), fault.column, batch.piece.raw(fault.record))
        for batch in batches(FORMATS[filename](rows), THINGS, filename)
        for fault in rows_of(batch, THINGS).faults
    ]
    lines = {
        "rows.csv": 6,
        "rows.csv.gz": 6,
        "rows.jsonl": 5,
        "rows.json": 18,
        "rows.json.zst": 18,
        "objects.json": 17,
        "rows.xml": 7,
        "rows.xml.gz": 7,
        "rows.parquet": 5,
        "rows.zip": 4,
    }
    ((line, name, raw),) = faults
    assert (line, name) == (lines[filename], "age")
    assert b"old" in raw
    assert b"4@example.org" in raw


def test_a_field_that_one_record_lacks_is_nobody_elses() -> None:
    rows: list[dict[str, Any]] = [
        {"email": "a@x.org", "age": 1, "source": "s"},
        {"email": "b@x.org"},
        {"email": "c@x.org", "age": 3},
    ]
    for filename, write in FORMATS.items():
        found = {row["email"]: row for row in shown(write(rows), THINGS, filename)}
        assert [found[f"{name}@x.org"]["age"] for name in "abc"] == [1, None, 3], filename
        assert [found[f"{name}@x.org"]["source"] for name in "abc"] == ["s", None, None], filename


def test_lists_decimals_and_enums_are_the_same_from_every_format() -> None:
    target = dataset(
        columns={
            "email": {"type": "string", "normalise": "email"},
            "price": {"type": "decimal(9,2)"},
            "kind": {"type": "enum", "values": ["Cat", "Dog"]},
            "tags": {"type": "list(integer)"},
            "day": {"type": "date"},
            "sold": {"type": "boolean"},
        },
        identity=["email"],
    )
    plain = {"email": "a@x.org", "price": "12.3", "kind": "cat", "tags": "[1,2]", "day": "2026-01-02", "sold": "yes"}
    expected = {
        "email": "a@x.org", "price": Decimal("12.30"), "kind": "Cat", "tags": [1, 2], "day": date(2026, 1, 2),
        "sold": True, "extra": None,
    }  # fmt: skip
    for filename, write in FORMATS.items():
        assert shown(write([plain]), target, filename) == [expected], filename
    typed = plain | {"price": 12.3, "tags": [1, 2], "sold": True}
    for filename in ("rows.jsonl", "rows.json", "objects.json", "rows.parquet"):
        assert shown(FORMATS[filename]([typed]), target, filename) == [expected], filename


def test_xml_values_are_texts_lists_or_objects() -> None:
    text = b"""<r><p source="a"><email>a@x.org</email><note><deep>1</deep><deep>2</deep></note>
      <source_id><![CDATA[<b>]]></source_id><age/><tag>x</tag><tag>y</tag></p></r>"""
    (row,) = shown(text, THINGS)
    assert (row["source"], row["source_id"], row["age"]) == ("a", "<b>", None)
    assert orjson.loads(row["note"]) == {"deep": ["1", "2"]}
    assert orjson.loads(row["extra"]) == {"tag": ["x", "y"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_xml_says_its_own_encoding(encoding: str) -> None:
    found = shown(as_xml([{"email": "a@x.org", "source": "é"}] * 2, encoding), THINGS)
    assert [row["source"] for row in found] == ["é", "é"]


def test_the_record_element_is_found_below_others() -> None:
    text = b"<export><head><date>2026</date></head><all><p><email>a@x.org</email></p></all></export>"
    assert [row["email"] for row in shown(text, THINGS)] == ["a@x.org"]
    single = b"<person><email>a@x.org</email><age>4</age></person>"
    assert [row["age"] for row in shown(single, THINGS)] == [4]
    both = b"<r><head><email>h@x.org</email><age>1</age></head><p><email>a@x.org</email></p></r>"
    layout = examined(Bytes(both), THINGS, LIMITS, Said(record="p"))
    assert layout.path == ("r", "p")
    with pytest.raises(Unreadable, match="no element 'q' in its first MiB"):
        examined(Bytes(both), THINGS, LIMITS, Said(record="q"))
    with pytest.raises(Unreadable, match="no element of the XML has a column of dataset things in it: cat, cats"):
        shown(b"<cats><cat/></cats>", THINGS)


def test_parquet_values_keep_their_types() -> None:
    target = dataset(
        columns={
            "n": {"type": "integer"},
            "f": {"type": "float"},
            "m": {"type": "decimal(6,2)"},
            "b": {"type": "boolean"},
            "d": {"type": "date"},
            "t": {"type": "timestamp"},
            "s": {"type": "string"},
            "tags": {"type": "list(string)"},
            "any": {"type": "json"},
            "kind": {"type": "enum", "values": ["Cat", "Dog"]},
        },
        identity=[],
    )
    row = {
        "n": np.int64(2**62),
        "f": 1.5,
        "m": Decimal("12.30"),
        "b": True,
        "d": date(2026, 1, 2),
        "t": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "s": 7.0,
        "tags": ["a", "b"],
        "any": {"x": [1, None]},
        "kind": "cat",
    }
    (found,) = shown(as_parquet([row]), target)
    assert found == row | {
        "t": datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - as Arrow has it, in UTC
        "s": "7",
        "any": '{"x":[1,null]}',
        "kind": "Cat",
        "extra": None,
    }


def test_parquet_values_out_of_range_are_rejected_with_their_column() -> None:
    rows: list[dict[str, Any]] = [
        {"email": "a@x.org", "record_ts": datetime(2200, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"email": "b@x.org", "record_ts": datetime(2026, 1, 1)},  # noqa: DTZ001
    ]
    assert reasons(loaded(as_parquet(rows), THINGS)) == [(0, "timestamp_range", "record_ts")]
    assert reasons(loaded(as_parquet([{"email": "a@x.org", "age": 2.5}]), THINGS)) == [(0, "integer_syntax", "age")]
    nested: list[dict[str, Any]] = [{"email": "a@x.org", "source": {"a": 1}}]
    assert reasons(loaded(as_parquet(nested), THINGS)) == [(0, "nested_value", "source")]


def test_moments_beyond_pythons_calendar_are_rejected_and_shown() -> None:
    far = pa.array([2**62, None], pa.timestamp("us"))
    other = pa.array([[2**62], None], pa.list_(pa.timestamp("us")))
    sink = io.BytesIO()
    table = pa.table({"email": ["a@x.org", "b@x.org"], "record_ts": far, "note": other, "far": far, "days": other})
    parquet.write_table(table, sink)
    (batch,) = batches(sink.getvalue(), THINGS)
    rows = rows_of(batch, THINGS)
    assert reasons(rows) == [(0, "timestamp_range", "record_ts")]
    raw = orjson.loads(batch.piece.raw(0))
    assert (raw["email"], raw["record_ts"]) == ("a@x.org", str(2**62))


def test_row_groups_are_chunks_of_their_own() -> None:
    rows = [{"email": f"{number}@x.org", "age": number} for number in range(100)]
    data = as_parquet(rows, row_group_size=30)
    found = shown(data, THINGS, chunk_bytes=1)
    assert [row["age"] for row in found] == list(range(100))
    assert len(batches(data, THINGS, chunk_bytes=1)) == 4
    assert shown(data, THINGS, chunk_bytes=len(data) // 2) == found


def test_an_array_that_breaks_off_says_where() -> None:
    data = as_array([{"email": "a@x.org"}, {"email": "b@x.org"}])
    with pytest.raises(Unreadable, match="the JSON array breaks off after line 4"):
        batches(data[:-10], THINGS)
    with pytest.raises(Unreadable, match="more after the end of the JSON array"):
        batches(data + b"{}", THINGS)


def test_a_bad_element_costs_itself() -> None:
    data = b'[{"email":"a@x.org"}, {"email":"b@x.org" "age":1}, 7, {"email":"c@x.org"},]'
    rows = loaded(data, THINGS)
    assert column(rows, "email") == ["a@x.org", "c@x.org"]
    assert reasons(rows) == [(1, "json_syntax", ""), (2, "not_an_object", "")]


@pytest.mark.parametrize(
    ("data", "filename", "says"),
    [
        (as_gzip(as_csv(ROWS))[:-9], "", "the gzip file cannot be read: the data end too soon"),
        (as_gzip(as_csv(ROWS))[:40] + bytes(20), "", "the gzip file cannot be read: the data are damaged"),
        (as_gzip(as_gzip(as_csv(ROWS))), "", "there is gzip inside of it: pack once, not twice"),
        (as_gzip(as_parquet(ROWS)), "", "Parquet is packed in itself already"),
        (as_zip(a_csv=as_csv(ROWS), b_csv=b"foo,bar\n1,2\n"), "", "b.csv: no column of dataset things"),
        (as_zip(), "", "it holds no file"),
        (as_zip(a_csv=as_array(ROWS)), "", "a.csv: the content is JSON, but the file name says CSV"),
        (as_parquet(ROWS)[:-20], "", "the Parquet file cannot be read"),
        (as_parquet([{"foo": 1}]), "", "no column of dataset things is in the Parquet file: foo"),
        (as_xml(ROWS)[:-30], "", "the XML cannot be read: line 9"),
        (b'<!DOCTYPE r SYSTEM "http://127.0.0.1/x.dtd"><r><p><email>a@x.org</email></p></r>', "", "has a DTD"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(data: bytes, filename: str, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        batches(data, THINGS, filename)


def test_empty_files_in_an_archive_have_no_rows() -> None:
    found = shown(as_zip(empty_csv=b"", a_csv=as_csv(ROWS)), THINGS)
    assert len(found) == len(ROWS)


def test_several_gzip_members_are_one_file() -> None:
    first, second = as_csv(ROWS[:3]), as_csv(ROWS[3:]).partition(b"\n")[2]
    assert len(shown(as_gzip(first) + as_gzip(second), THINGS)) == len(ROWS)


def test_what_unpacks_to_more_than_is_allowed_is_refused_while_it_unpacks() -> None:
    tight = Limits(ratio_from_bytes=1 << 20)
    with pytest.raises(Unreadable, match="it unpacks to more than 200 times its size"):
        batches(as_gzip(b"email\n" + b"a" * (64 << 20)), THINGS, limits=tight)
    with pytest.raises(Unreadable, match="more bytes than are allowed"):
        batches(as_zip(a_csv=b"email\n" + b"x@x.org\n" * 500_000), THINGS, limits=Limits(output_bytes_max=3 << 20))
