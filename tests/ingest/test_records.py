"""The vectorised search for records against the definition, read byte by byte."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.formats import records
from ingest.formats.records import ODD, REGULAR, TOO_LONG, Dialect, Place, pieces

CSV = Dialect(b'"', b",")
LINES = Dialect(carriage_returns=False)
HOSTILE = st.lists(st.sampled_from([b"a", b'"', b",", b"\n", b"\r", b"\r\n", b'""', b"\x00"]), max_size=40).map(
    b"".join
)
WINDOW, RECORD_MAX = 64, 20


@pytest.fixture(autouse=True, params=[WINDOW, 200])
def _small_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "WINDOW_BYTES", request.param)
    monkeypatch.setattr(records, "RECORD_BYTES_MAX", RECORD_MAX)


def found(text: bytes, dialect: Dialect = CSV, at_most: int = 1000) -> list[tuple[bytes, int]]:
    return [
        (piece.text(index), int(piece.kinds[index]))
        for piece in pieces(io.BytesIO(text), dialect, at_most=at_most)
        for index in range(len(piece))
    ]


def defined(text: bytes) -> Iterator[tuple[bytes, int]]:
    """Record by record, as the module's docstring says it."""
    at = 0
    while at < len(text):
        end, kind = _regular_end(text, at), REGULAR
        if end is None or (end - at > RECORD_MAX and any(mark in text[at:end] for mark in b"\r\n")):
            end, kind = _line_end(text, at), ODD
        if end - at > RECORD_MAX:
            kind = TOO_LONG
        if end > at:
            yield text[at:end], kind
        at = end + (2 if text[end : end + 2] == b"\r\n" else 1)


def _line_end(text: bytes, at: int) -> int:
    while at < len(text) and text[at : at + 1] not in {b"\r", b"\n"}:
        at += 1
    return at


def _regular_end(text: bytes, at: int) -> int | None:
    """The end of the record by RFC 4180; None where its quotes break the rules."""
    state = "start"
    while at < len(text):
        mark, after = text[at : at + 1], text[at + 1 : at + 2]
        if state == "quoted":
            if mark == b'"' and after == b'"':
                at += 1
            elif mark == b'"' and after not in {b"", b",", b"\r", b"\n"}:
                return None
            elif mark == b'"':
                state = "plain"
        elif mark in {b"\r", b"\n"}:
            return at
        elif mark == b'"' and state == "plain":
            return None
        else:
            state = {b'"': "quoted", b",": "start"}.get(mark, "plain")
        at += 1
    return None if state == "quoted" else at


@settings(max_examples=600)
@given(HOSTILE)
@example(b'1,"un\n2,x\n3,y\n')
@example(b'5" pipe,3\n"a"b,4\n1,2')
@example(b'"a\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nb",1\n2,3')
@example(b'""\n,""""\n\r"\r""\na"\r"""""\n""\na,"\r')
@example(b'"aaaaaaaa\r\n\r\n\r\n\r\n\r\n"\r\n')  # exactly the limit, without its CR LF
def test_records_are_those_of_the_definition(text: bytes) -> None:
    expected = [(record, kind) for record, kind in defined(text) if kind != TOO_LONG]
    seen = found(text)
    assert [one for one in seen if one[1] != TOO_LONG] == expected
    assert len(seen) == len(list(defined(text)))


@settings(max_examples=200)
@given(HOSTILE, st.integers(1, 5))
def test_pieces_continue_each_other(text: bytes, at_most: int) -> None:
    whole = list(pieces(io.BytesIO(text), CSV, at_most=1000))
    rows = [
        (
            piece.place.row + index,
            piece.place.line + int(piece.lines[index]),
            piece.place.offset + int(piece.starts[index]),
        )
        for piece in whole
        for index in range(len(piece))
    ]
    place, cut = Place(), []
    for piece in pieces(io.BytesIO(text), CSV, at_most=at_most):
        assert piece.place == place
        cut += [
            (place.row + index, place.line + int(piece.lines[index]), place.offset + int(piece.starts[index]))
            for index in range(len(piece))
        ]
        place = Place(place.offset + piece.consumed, place.line + piece.lines_consumed, place.row + len(piece))
    assert cut == rows
    assert place.offset == len(text)
    assert all(text[offset : offset + 1] not in {b"\r", b"\n", b""} for _, _, offset in rows)


@settings(max_examples=150)
@given(HOSTILE)
def test_whoever_starts_at_a_boundary_finds_the_same_records(text: bytes) -> None:
    seen = found(text)
    for piece in pieces(io.BytesIO(text), CSV, at_most=1):
        rest = found(text[piece.place.offset + piece.consumed :])
        assert seen[len(seen) - len(rest) :] == rest


@given(st.lists(st.sampled_from([b"{}", b'{"a":"\\n"}', b"\r", b"x", b"\n"]), max_size=5).map(b"".join))
def test_lines_end_at_line_feeds_alone(text: bytes) -> None:
    *ended, last = text.split(b"\n")
    lines = [*(line.removesuffix(b"\r") for line in ended), last]
    assert [record for record, _ in found(text, LINES)] == [line for line in lines if line]


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r", b"\r\n", b"\nb,2\n", b"\rb,2", b"\r\nb,2"])
def test_an_endless_line_is_one_record_and_is_not_held(tail: bytes) -> None:
    text = b"x" * 1000 + tail
    seen = found(text)
    assert [kind for _, kind in seen] == [TOO_LONG] + [REGULAR] * tail.count(b"b")
    assert len(seen[0][0]) <= 200
    last = list(pieces(io.BytesIO(text), CSV, at_most=1000))[-1]
    assert last.place.offset + last.consumed == len(text)
