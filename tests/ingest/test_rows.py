from datetime import UTC, datetime

import pyarrow as pa

from ingest import dataset_table
from ingest.dataset_table import Origin, encoded
from support.ingest_parts import column, dataset, loaded, reasons

THINGS = dataset()
ARRIVED = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_bad_value_is_dropped_while_another_identity_remains() -> None:
    rows = loaded(b"email,phone\nnobody,+12125550100\nnobody,\nada@x.org,12\n", THINGS)
    assert column(rows, "email") == [None, "ada@x.org"]
    assert column(rows, "phone") == ["+12125550100", None]
    assert reasons(rows) == [(1, "email_syntax", "email")]
    assert rows.dropped == {"email_syntax": 1, "phone_invalid": 1}


def test_half_an_identity_of_two_columns_is_none() -> None:
    rows = loaded(b'email,source,source_id\nnobody,crm,\nnobody,crm,7\nnobody,crm,""\n', THINGS)
    assert column(rows, "source_id") == ["7"]
    assert [record for record, _, _ in reasons(rows)] == [0, 2]


def test_a_bad_value_outside_of_the_identity_never_costs_the_row() -> None:
    rows = loaded(b"email,country\n,Atlantis\n", THINGS)
    assert column(rows, "country") == [None]
    assert rows.dropped == {"country_unknown": 1}


def test_every_bad_value_costs_the_row_where_so_declared() -> None:
    rows = loaded(
        b"email,phone,country\nada@x.org,12,US\nbob@x.org,,Atlantis\nx,y,z\n", dataset(on_invalid="reject_row")
    )
    assert reasons(rows) == [
        (0, "phone_invalid", "phone"),
        (1, "country_unknown", "country"),
        (2, "email_syntax", "email"),
    ]


def test_a_type_fault_costs_the_row_and_the_first_is_named() -> None:
    rows = loaded(b"record_ts,email,age\n31/31/2026,ada@x.org,old\n,bob@x.org,9223372036854775808\n", THINGS)
    assert reasons(rows) == [(0, "integer_syntax", "age"), (1, "integer_range", "age")]


def test_the_phone_is_read_by_the_country_of_its_row() -> None:
    rows = loaded(b"email,phone,country\na@x.org,0151 23456789,Germany\nb@x.org,(212) 555-0100,\n", THINGS)
    assert column(rows, "phone") == ["+4915123456789", "+12125550100"]


def version_of(block: dataset_table.Block) -> list[int]:
    table = pa.ipc.open_stream(block.data).read_all()
    return [int.from_bytes(value, "little") for value in table.column("version").to_pylist()]


def test_versions_order_by_time_then_upload_then_place_in_the_file() -> None:
    rows = loaded(b"email,record_ts\na@x.org,2026-01-01\nb@x.org,\nc@x.org,2026-01-03\nd@x.org,\n", THINGS)
    first, arrived, later, second = version_of(encoded(rows, Origin("u", 7, ARRIVED)))
    assert first < arrived < second < later
    next_upload = version_of(encoded(rows, Origin("u", 8, ARRIVED)))
    assert second < next_upload[1] < later
    assert version_of(encoded(rows, Origin("u", 2**32 - 1, ARRIVED)))[3] < later


def test_equal_rows_have_equal_digests_and_others_have_not() -> None:
    rows = loaded(b"email\na@x.org\n", THINGS)
    origin = Origin("u", 1, ARRIVED)
    assert encoded(rows, origin).digest == encoded(loaded(b"email\na@x.org\n", THINGS), origin).digest
    assert encoded(rows, origin).digest != encoded(loaded(b"email\nb@x.org\n", THINGS), origin).digest
