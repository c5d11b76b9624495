"""Erased values do not come back by what is read again."""

from typing import Any

import pyarrow as pa

from common.ids import new_id
from ingest import quarantine
from ingest.erased import hash_of, names_erased, without_erased
from ingest.rows import Rows, rows_of
from support.ingest_parts import batches, column, dataset, reasons

THINGS = dataset(identity=["email"])
DATA = b"email,age\na@x.org,1\nB@x.org,2\n,3\nb@x.org,none\nc@x.org,4\n"


def read(erased: dict[str, frozenset[str]]) -> tuple[Rows, Any]:
    (batch,) = batches(DATA, THINGS)
    return without_erased(rows_of(batch, THINGS), batch, THINGS, erased), batch


def erased_of(*values: str) -> dict[str, frozenset[str]]:
    return {"email": frozenset(hash_of("things", "email", value) for value in values)}


def test_rows_with_an_erased_value_are_rejected_and_stay_counted() -> None:
    rows, _ = read(erased_of("b@x.org"))
    assert column(rows, "email") == ["a@x.org", None, "c@x.org"]
    assert list(rows.row_numbers) == [1, 3, 5]
    assert reasons(rows) == [(1, "erased", ""), (3, "integer_syntax", "age")]


def test_nothing_changes_where_nobody_is_meant() -> None:
    rows, _ = read(erased_of("z@x.org"))
    assert len(rows) == 4


def test_quarantine_keeps_nothing_of_who_was_erased() -> None:
    erased = erased_of("b@x.org")
    rows, batch = read(erased)
    rejects = quarantine.encoded(
        rows.faults, batch.piece, dataset=THINGS, upload_id=new_id(), generation=1, chunk_no=0, erased=erased
    )
    with pa.ipc.open_stream(rejects.data) as stream:
        raws = stream.read_next_batch().column("raw").to_pylist()
    assert raws == [b"", b""]


def test_an_erased_value_is_found_in_any_kind_of_record() -> None:
    erased = erased_of("b@x.org")
    for raw in (b'{"mail":"B@x.org"}', b"1;b@x.org;2", b"<email>b@x.org</email>", b'"b@x.org"\t1'):
        assert names_erased(raw, THINGS, erased), raw
    assert not names_erased(b"bb@x.org,b@x.orgs", THINGS, erased)
