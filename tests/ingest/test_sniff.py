import gzip

import pytest

from ingest.formats.layout import Unreadable
from ingest.formats.sniff import Sample, packing_of, sniff
from support.ingest_parts import FLIGHTS, PEOPLE, dataset

THINGS = dataset()


@pytest.mark.parametrize(
    ("data", "delimiter", "quote"),
    [
        (b"email,age\na@x.org,1\n", ",", '"'),
        (b"email;age\na@x.org;1,5\n", ";", '"'),
        (b"email\tage\na@x.org\t1\n", "\t", '"'),
        (b"email|age\na@x.org|1\n", "|", '"'),
        (b'email;source\n"a@x.org";"x;y"\n', ";", '"'),
        (b"email,source\n'a@x.org','x,y'\n", ",", "'"),
        (b"email\na@x.org\n", ",", '"'),
    ],
)
def test_delimiter_and_quote_are_found(data: bytes, delimiter: str, quote: str) -> None:
    layout = sniff(Sample(data, whole=True), THINGS)
    assert (layout.format, layout.delimiter, layout.quote) == ("csv", delimiter, quote)
    assert layout.header[0] == "email"
    assert (layout.offset, layout.line) == (data.index(b"\n") + 1, 2)


def test_without_a_header_columns_go_by_their_place() -> None:
    data = b"a@x.org,,US,41,crm,7,,2026-01-01\n"
    layout = sniff(Sample(data, whole=True), THINGS)
    assert layout.header == tuple(THINGS.columns)
    assert layout.offset == 0


def test_a_header_may_span_lines_and_have_gaps() -> None:
    layout = sniff(Sample(b'email,"a\nb",\nx@x.org,1,2\n', whole=True), THINGS)
    assert layout.header == ("email", "a\nb", "column_3")
    assert (layout.offset, layout.line) == (13, 3)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty"),
        (b" \n\r\n ", "nothing but white space"),
        (b"foo,bar\n1,2\n", "no column of dataset things is in the first line: foo, bar"),
        (b"1,2\n3,4\n", "no header and 2 columns"),
        (b"\x7fELF\x02\x01\x01" + bytes(200), "executable"),
        (b"MZ\x90\x00\x03" + bytes(200), "executable"),
        (b"#!/bin/sh\necho email,age\n", "script"),
        (b"%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 50, "binary"),
        (b"x" * (2 << 20), "longer than 1 MiB"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_a_sentence(data: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        sniff(Sample(data[: 1 << 20], whole=len(data) <= 1 << 20), THINGS)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b'{"email":"a@x.org"}\n{"email":"b@x.org"}\n', "json_lines"),
        (b'{"email":"a@x.org"}', "json_lines"),
        (b'{"email":\n{"email":"b@x.org"}\n', "json_lines"),
        (b'{\n "email": "a@x.org"\n}\n', "json_objects"),
        (b'{\n "email": "a@x.org",\n "note": [\n{"a": 1}\n]\n}\n', "json_objects"),
        (b' [{"email":"a@x.org"}]', "json_array"),
        (b'<?xml version="1.0"?><people/>', "xml"),
        ('<?xml version="1.0" encoding="utf-16"?><people/>'.encode("utf-16"), "xml"),
        (b"PAR1" + bytes(50), "parquet"),
    ],
)
def test_the_format_is_found_in_the_content(data: bytes, form: str) -> None:
    assert sniff(Sample(data, whole=True), THINGS).format == form


def test_packing_is_found_in_the_content_and_compared_with_the_name() -> None:
    packed = gzip.compress(b"email\na@x.org\n")
    assert packing_of(Sample(packed, whole=True, filename="a.csv.gz")) == "gzip"
    with pytest.raises(Unreadable, match="the content is gzip, but the file name says CSV"):
        packing_of(Sample(packed, whole=True, filename="a.csv"))
    with pytest.raises(Unreadable, match="the content is not compressed, but the file name says zstd"):
        packing_of(Sample(b"email\n", whole=True, filename="a.csv.zst"))


@pytest.mark.parametrize(
    ("data", "filename", "declared", "says"),
    [
        (b'{"email":"a@x.org"}\n', "a.csv", None, "the content is JSON, but the file name says CSV"),
        (b"email\na@x.org\n", "a.jsonl", None, "the content is CSV, but the file name says JSON"),
        (b"email\na@x.org\n", "a.txt", "json", "the content is CSV, but the declared format is JSON"),
        (b"email\na@x.org\n", "a.csv", "text/csv; charset=utf-8", None),
        (b'{"email":"a@x.org"}\n', "A.JSON", "application/x-ndjson", None),
        (b"email\na@x.org\n", "../../etc/passwd", None, None),
    ],
)
def test_a_contradiction_says_which_said_what(
    data: bytes, filename: str, declared: str | None, says: str | None
) -> None:
    sample = Sample(data, whole=True, filename=filename, declared=declared)
    if says is None:
        assert sniff(sample, THINGS).format
        return
    with pytest.raises(Unreadable, match=says):
        sniff(sample, THINGS)


def test_a_sample_may_end_inside_a_character() -> None:
    data = ("email,source\n" + "a@x.org,é\n" * 200_000).encode()
    cut = next(at for at in range(1 << 20, 0, -1) if data[at : at + 1] == b"\xa9")
    layout = sniff(Sample(data[:cut], whole=False), THINGS)
    assert layout.encoding == "utf-8"


def test_the_flights_and_people_headers_are_known() -> None:
    header = ",".join(FLIGHTS.columns).encode()
    assert len(sniff(Sample(header + b"\n", whole=True), FLIGHTS).header) == 19
    assert sniff(Sample(b"Email Address,mobile,fname\n", whole=True), PEOPLE).line == 2
