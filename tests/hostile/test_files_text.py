"""CSV and JSON as nobody should write them: every row is loaded or quarantined, and the counts add up."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import Permanent
from ingest.rows import rows_of
from support.alone import alone
from support.ingest_parts import batches, column, dataset, loaded, reasons

THINGS = dataset()
HEADER = b"email,age,source\n"


def counted(data: bytes, filename: str = "") -> tuple[int, int]:
    """Accepted, rejected; and that together they are all there is."""
    accepted = rejected = 0
    for batch in batches(data, THINGS, filename):
        rows = rows_of(batch, THINGS)
        assert len(rows) + len({fault.record for fault in rows.faults}) == len(batch.piece)
        accepted, rejected = accepted + len(rows), rejected + len(rows.faults)
    return accepted, rejected


@pytest.mark.parametrize(
    ("body", "accepted", "rejected"),
    [
        (b'a@x.org,1,"open\nb@x.org,2,y\nc@x.org,3,z\n', 2, 1),
        (b'a@x.org,1,x\nb@x.org,2,"y\n', 1, 1),
        (b'a@x.org,1,5" pipe\nb@x.org,2,y\n', 2, 0),
        (b'a@x.org,1,"x"y\nb@x.org,2,y\n', 1, 1),
        (b"a@x.org,1\nb@x.org,2,y,z\nc@x.org,3,z\n\n", 1, 2),
        (b"a@x.org,1,\x00\n\x00,\x00,\x00\nc@x.org,3,z\n", 2, 1),
        (b"a@x.org,1,\xff\xfe\nb@x.org,2,y\xc3\n" + "c@x.org,3,äöü\n".encode() * 9, 9, 2),
        (b"a@x.org,1,x\rb@x.org,2,y\r\nc@x.org,3,z\n", 3, 0),
        (b"a@x.org,1," + b"x" * (2 << 20) + b"\nb@x.org,2,y\n", 1, 1),
        (b"a@x.org,99999999999999999999,x\nb@x.org,2,y\n", 1, 1),
        (b"a@x.org,1,'x\nO'Brien@x.org,2,'70s\n", 2, 0),
        (b"a@x.org,1,x\n" * 3 + b",,\n", 4, 0),
    ],
    ids=[
        "open quote", "open at the end", "stray quote", "after a quote", "ragged", "nul", "not utf-8", "line ends",
        "long line", "overflow", "single quotes", "nothing in it",
    ],
)  # fmt: skip
def test_dirty_csv_adds_up(body: bytes, accepted: int, rejected: int) -> None:
    assert counted(HEADER + body) == (accepted, rejected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "iso-8859-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_csv(encoding: str, end: str) -> None:
    text = end.join(["email,age,source", *(f"{number}@x.org,{number},Zoë é" for number in range(20)), ""])
    rows = loaded(text.encode(encoding), THINGS)
    assert column(rows, "source") == ["Zoë é"] * 20
    assert column(rows, "age") == list(range(20))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", ["lines", "array", "object"])
def test_encodings_of_json(encoding: str, form: str) -> None:
    row = {"email": "a@x.org", "source": "Zoë é"}
    rows = [row] if form == "object" else [row, row]
    text = {"lines": "\n".join(map(json.dumps, rows)), "array": json.dumps(rows), "object": json.dumps(row, indent=1)}
    text |= {name: one.replace("\\u00eb", "ë").replace("\\u00e9", "é") for name, one in text.items()}
    assert column(loaded(text[form].encode(encoding), THINGS), "source") == ["Zoë é"] * len(rows)


def test_latin1_in_json_costs_its_line() -> None:
    data = b'{"email":"a@x.org","source":"Zo\xeb"}\n{"email":"b@x.org"}\n'
    assert reasons(loaded(data, THINGS)) == [(0, "json_syntax", "")]


def test_single_quotes_are_data_unless_they_frame_everything() -> None:
    names = loaded(b"email,source\na@x.org,'Joe'\nb@x.org,O'Neil\nc@x.org,'n'\n", THINGS)
    assert column(names, "source") == ["'Joe'", "O'Neil", "'n'"]
    framed = loaded(b"email,source\n'a@x.org','Joe'\n'b@x.org','x,y'\n", THINGS)
    assert column(framed, "source") == ["Joe", "x,y"]
    uniform = loaded(b"email,source\n'a@x.org','Joe'\n'b@x.org','y'\n", THINGS)
    assert column(uniform, "email") == ["a@x.org", "b@x.org"]


@pytest.mark.parametrize(
    ("data", "accepted", "rejected"),
    [
        (b'{"email":"a@x.org"}\n{"email":\n[]\nnull\n{"email":"b@x.org"} {"email":"c@x.org"}\n', 1, 4),
        (b'{"email":"a@x.org","email":"b@x.org"}\n', 1, 0),
        (b'{"email":"a@x.org","age":1e400}\n{"email":"b@x.org","age":NaN}\n', 0, 2),
        (b'{"email":"a@x.org","age":18446744073709551616}\n', 0, 1),
        (b'{"email":"a@x.org","source":' + b"[" * 5000 + b"]" * 5000 + b"}\n", 0, 1),
        (b'{"email":"a@x.org","source":"\\ud800"}\n{"email":"b@x.org"}\n', 1, 1),
        (b'[{"email":"a@x.org"},{"email":"a@x.org","age":"x"},null,{"a"}]', 1, 3),
        (b"[]", 0, 0),
        (b'[{"email":"' + b"a" * (2 << 20) + b'"},{"email":"a@x.org"}]', 1, 1),
    ],
    ids=["lines", "twice", "not finite", "2^64", "deep", "surrogate", "array", "empty array", "long element"],
)
def test_dirty_json_adds_up(data: bytes, accepted: int, rejected: int) -> None:
    assert counted(data) == (accepted, rejected)


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00" * 4096])
def test_a_file_without_anything_in_it_says_so(data: bytes) -> None:
    with pytest.raises(Permanent, match=r"empty|white space|binary|no column"):
        batches(data, THINGS)


@pytest.mark.parametrize("data", [HEADER, HEADER.strip(), HEADER + b"\r\n\n", b"[]", b"[ \n ]"])
def test_a_file_with_a_header_alone_has_no_rows(data: bytes) -> None:
    assert counted(data) == (0, 0)


@pytest.mark.parametrize(
    "begin", [HEADER + b"a@x.org,1,x", b'{"email":"x', b'[{"email":"x'], ids=["csv", "json", "array"]
)
def test_a_line_that_never_ends_is_bounded(tmp_path: Path, begin: bytes) -> None:
    _endless(tmp_path, begin, 256 << 20)


@pytest.mark.long
def test_a_line_of_ten_gigabytes_is_bounded(tmp_path: Path) -> None:
    _endless(tmp_path, HEADER + b"a@x.org,1,x", 10 << 30)


def _endless(folder: Path, begin: bytes, size: int) -> None:
    path = folder / "endless"
    path.write_bytes(begin)
    done = alone("read_alone", path, "", size, timeout_s=150)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["own_mib"] < 384
    if begin.startswith(b"["):
        assert "the JSON array breaks off" in found["error"]
    else:
        assert (found["accepted"], found["rejected"], found["error"]) == (0, 1, None)
