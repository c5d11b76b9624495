import csv
import io

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from support.ingest_parts import FLIGHTS, PEOPLE, column, dataset, loaded, reasons

THINGS = dataset()


def test_cells_come_with_their_row_line_and_place_in_the_file() -> None:
    rows = loaded(b'email,age\n"a@x.org",1\r\n\nb@x.org,2\n"c@x.org","3\n"\n', THINGS)
    assert column(rows, "email") == ["a@x.org", "b@x.org", "c@x.org"]
    assert column(rows, "age") == [1, 2, 3]
    assert rows.row_numbers.tolist() == [1, 2, 3]
    assert rows.offsets.tolist() == [10, 24, 34]


def test_an_empty_cell_is_null_and_a_quoted_one_is_the_empty_text() -> None:
    rows = loaded(b'email,source,age\na@x.org,,\nb@x.org,"",""\nc@x.org,NULL,\n', THINGS)
    assert column(rows, "source") == [None, "", "NULL"]
    assert column(rows, "age") == [None, None, None]
    assert not rows.faults


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_the_last_empty_cell_is_null_whatever_stands_before_it_and_however_the_file_ends(end: str) -> None:
    """Also behind a quoted cell, and where the piece that is read is not all of the text."""
    for ragged in ("", "b@x.org" + (end or "\n")):
        rows = loaded(f'email,source,hobby{end or chr(10)}{ragged}a@x.org,"s",{end}'.encode(), THINGS)
        assert (column(rows, "source"), rows.extra.to_pylist()) == (["s"], [None])
        rows = loaded(f'email,hobby,source{end or chr(10)}{ragged}a@x.org,"chess",{end}'.encode(), THINGS)
        assert (column(rows, "source"), rows.extra.to_pylist()) == ([None], ['{"hobby":"chess"}'])


def test_ragged_rows_are_rejected_and_the_others_are_not() -> None:
    rows = loaded(b"email,age\na@x.org,1\nb@x.org\nc@x.org,3,4\nd@x.org,5\n", THINGS)
    assert column(rows, "email") == ["a@x.org", "d@x.org"]
    assert rows.row_numbers.tolist() == [1, 4]
    assert reasons(rows) == [(1, "ragged_row", ""), (2, "ragged_row", "")]


def test_an_unclosed_quote_costs_its_line_only() -> None:
    rows = loaded(b'email,source\n"a@x.org,s\nb@x.org,s\nc@x.org,s\n', THINGS)
    assert column(rows, "email") == ["b@x.org", "c@x.org"]
    assert reasons(rows) == [(0, "quote_syntax", "")]


def test_the_end_of_a_broken_field_is_no_row() -> None:
    rows = loaded(b'email,source\na@x.org,"say "hi"\nb@x.org,s\nnow",c@x.org\nd@x.org,s\n', THINGS)
    assert column(rows, "email") == ["b@x.org", "d@x.org"]
    assert [reason for _, reason, _ in reasons(rows)] == ["quote_syntax", "quote_syntax"]


def test_a_quote_in_a_plain_field_is_a_character() -> None:
    rows = loaded(b'email,source\na@x.org,5" pipe\nb@x.org,x\n', THINGS)
    assert sorted(column(rows, "source")) == ['5" pipe', "x"]
    assert sorted(rows.row_numbers.tolist()) == [1, 2]


def test_a_nul_is_a_character_like_any_other() -> None:
    rows = loaded(b"email,source,age\na@x.org,a\x00b,1\nb@x.org,x,2\n", THINGS)
    assert column(rows, "source") == ["a\x00b", "x"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8-sig", ""), ("utf-16", ""), ("utf-16-le", ""), ("utf-16-be", ""), ("iso-8859-1", "")],
)
def test_other_encodings_read_the_same(encoding: str, mark: str) -> None:
    text = mark + "email;source\r\nada@x.org;Zoë\r\nbob@x.org;x\r\n" * 1
    rows = loaded(text.encode(encoding), THINGS)
    assert column(rows, "source") == ["Zoë", "x"]
    assert rows.row_numbers.tolist() == [1, 2]


def test_bytes_that_are_not_utf8_cost_their_row() -> None:
    rows = loaded(b"email,source\na@x.org,Zo\xc3\xab\nb@x.org,\xc3\xa9t\xc3\xa9\nc@x.org,Zo\xeb\nd@x.org,s\n", THINGS)
    assert column(rows, "source") == ["Zoë", "été", "s"]
    assert reasons(rows) == [(2, "encoding", "source")]


def test_carriage_returns_alone_end_lines() -> None:
    rows = loaded(b"email,age\ra@x.org,1\rb@x.org,2\r", THINGS)
    assert column(rows, "age") == [1, 2]


def test_unknown_fields_are_kept_as_json() -> None:
    rows = loaded(b'email,Hobby,x y\na@x.org,"chess, ""go""",\nb@x.org,,1\nc@x.org,,\n', THINGS)
    assert rows.extra.to_pylist() == ['{"Hobby":"chess, \\"go\\""}', '{"x y":"1"}', None]


def test_unknown_fields_are_dropped_or_rejected_as_declared() -> None:
    data = b"email,hobby\na@x.org,chess\nb@x.org,\n"
    assert len(loaded(data, dataset(extra="drop"))) == 2
    rows = loaded(data, dataset(extra="reject"))
    assert column(rows, "email") == ["b@x.org"]
    assert reasons(rows) == [(0, "unknown_field", "hobby")]


def test_two_fields_of_one_column_give_the_first_that_has_a_value() -> None:
    rows = loaded(b"mail,email\n,b@x.org\na@x.org,c@x.org\n", THINGS)
    assert column(rows, "email") == ["b@x.org", "a@x.org"]


def test_flights_read_as_numbers() -> None:
    header = ",".join(FLIGHTS.columns)
    rows = loaded(
        f"{header}\n2013,1,1,517.0,515,2.0,830.0,819,11.0,UA,1545,N14228,EWR,IAH,227.0,1400,5,15,2013-01-01T10:00:00Z\n"
        f"2013,1,1,,515,,,819,,UA,1546,,EWR,IAH,,1400,5,15,2013-01-01T10:00:00Z\n".encode(),
        FLIGHTS,
    )
    assert column(rows, "dep_time") == [517.0, None]
    assert column(rows, "tailnum") == ["N14228", None]
    assert column(rows, "flight") == [1545, 1546]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=20))
def test_whatever_a_csv_writer_writes_is_read_back(written: list[tuple[str, str]]) -> None:
    assume(sum(char < " " for row in written for cell in row for char in cell) <= 16)  # more is binary, says sniff
    file = io.StringIO()
    out = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    out.writerows([["source", "source_id"], *written])
    rows = loaded(
        file.getvalue().encode(),
        dataset(columns={"source": {"type": "string"}, "source_id": {"type": "string"}}, identity=[]),
    )
    assert list(zip(column(rows, "source"), column(rows, "source_id"), strict=True)) == written
    assert not rows.faults


noise = st.lists(
    st.sampled_from([b"a@x.org", b",", b'"', b"\n", b"\r\n", b"\r", b"\x00", b"\xff", b"1", b"{", b"'"]), max_size=60
).map(b"".join)


@given(noise)
def test_every_record_becomes_a_row_or_a_reject(body: bytes) -> None:
    data = b"email,age,source\n" + b"z@x.org,1,s\n" * 3 + body
    rows = loaded(data, THINGS)
    records = {fault.record for fault in rows.faults}
    numbers = set((rows.row_numbers - 1).tolist())
    assert len(records) == len(rows.faults)
    assert len(numbers) == len(rows)
    assert not records & numbers
    assert records | numbers == set(range(len(records) + len(numbers)))
    assert {0, 1, 2} <= numbers


def test_people_headers_are_found_by_their_aliases() -> None:
    rows = loaded(b"E-Mail,Email Address,Mobile,Last\nx,ADA@x.org,+44 7911 123456,L\n", PEOPLE)
    assert column(rows, "email") == ["ada@x.org"]
    assert column(rows, "phone") == ["+447911123456"]
    assert column(rows, "last_name") == ["L"]
    assert rows.extra.to_pylist() == ['{"E-Mail":"x"}']
