"""Random tables, written in every format, load as the same rows; randomly damaged files lose none."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import Permanent
from ingest.rows import rows_of
from support.ingest_parts import batches, dataset
from support.written import FORMATS, as_array, as_csv, as_gzip, as_lines, as_xml

THINGS = dataset()
# What every format can hold: XML knows no control characters, and CSV no difference between blank and nothing.
texts = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), exclude_characters="\u2028\u2029\ufeff"), min_size=1
).filter(lambda text: text.strip() == text)
rows = st.lists(
    st.fixed_dictionaries(
        {"age": st.none() | st.integers(-(2**63), 2**63 - 1), "source": st.none() | texts},
        optional={"source_id": texts, "extra field": st.none() | texts},
    ),
    min_size=1,
    max_size=12,
)
# No deadline: a child process may start while other programs have the machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
few = settings(patient, max_examples=5)


def found(data: bytes, filename: str) -> list[tuple[Any, ...]]:
    """Email, age, source, source_id and the extra field of every row, by e-mail."""
    shown = []
    for batch in batches(data, THINGS, filename):
        loaded = rows_of(batch, THINGS)
        assert not loaded.faults
        names = ("email", "age", "source", "source_id")
        shown += list(zip(*(loaded.columns[name].to_pylist() for name in names), loaded.extra.to_pylist(), strict=True))
    return sorted(shown)


@settings(patient, max_examples=300)
@given(rows)
def test_a_table_is_the_same_as_csv_and_as_lines(table: list[dict[str, Any]]) -> None:
    """The two that need no child process, and so can be tried often."""
    named = [{"email": f"{number:03}@example.org"} | row for number, row in enumerate(table)]
    assert found(as_csv(named), "rows.csv") == found(as_lines(named), "rows.jsonl")


@few
@given(rows)
def test_a_table_is_the_same_in_every_format(table: list[dict[str, Any]]) -> None:
    named = [{"email": f"{number:03}@example.org"} | row for number, row in enumerate(table)]
    filenames = [
        name for name in FORMATS if "xml" not in name or "extra field" not in {key for row in named for key in row}
    ]
    expected = found(as_lines(named), "rows.jsonl")
    assert [row[:4] for row in expected] == [
        (row["email"], row.get("age"), row.get("source"), row.get("source_id")) for row in named
    ]
    for filename in filenames:
        assert found(FORMATS[filename](named), filename) == expected, filename


damage = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "cut", "put"]), st.binary(min_size=1, max_size=6)
    ),
    min_size=1,
    max_size=8,
)


def damaged(data: bytes, faults: list[tuple[float, str, bytes]]) -> bytes:
    for share, way, other in faults:
        at = int(share * len(data))
        end = at if way == "put" else at + len(other)
        data = data[:at] + (b"" if way == "cut" else other) + data[end:]
    return data


def counts(data: bytes, filename: str) -> tuple[int, int]:
    """Records, and those that became a row or a reject: each exactly one of the two."""
    records = outcomes = 0
    for batch in batches(data, THINGS, filename):
        loaded = rows_of(batch, THINGS)
        rejected = {fault.record for fault in loaded.faults}
        accepted = set((loaded.row_numbers - batch.piece.place.row).tolist())
        assert not rejected & accepted
        records += len(batch.piece)
        outcomes += len(rejected | accepted)
    return records, outcomes


TABLE = [{"email": f"{number}@example.org", "age": number, "source": f"s {number}"} for number in range(40)]


@patient
@given(damage)
def test_damaged_csv_loses_no_line(faults: list[tuple[float, str, bytes]]) -> None:
    header, _, body = as_csv(TABLE).partition(b"\n")
    data = header + b"\n" + damaged(body, [(share, way, other.replace(b'"', b"'")) for share, way, other in faults])
    try:
        records, outcomes = counts(data, "")
    except Permanent:
        return
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[1:]
    if b"'" not in data and b"\0" not in data:
        assert records == sum(1 for line in lines if line)
    assert records == outcomes


@patient
@given(damage)
def test_damaged_json_lines_lose_no_line(faults: list[tuple[float, str, bytes]]) -> None:
    first, _, body = as_lines(TABLE).partition(b"\n")
    data = first + b"\n" + damaged(body, faults)
    try:
        records, outcomes = counts(data, "rows.jsonl")
    except Permanent:
        return
    assert records == outcomes == sum(1 for line in data.split(b"\n") if line.removesuffix(b"\r"))


@patient
@given(damage)
def test_damaged_arrays_are_rows_and_rejects_or_refused(faults: list[tuple[float, str, bytes]]) -> None:
    try:
        records, outcomes = counts(damaged(as_array(TABLE), faults), "")
    except Permanent:
        return
    assert records == outcomes


@few
@given(damage, st.sampled_from([as_xml, lambda table: as_gzip(as_csv(table)), FORMATS["rows.zip"]]))
def test_damaged_documents_and_archives_are_rows_and_rejects_or_refused(
    faults: list[tuple[float, str, bytes]], write: Any
) -> None:
    try:
        records, outcomes = counts(damaged(write(TABLE), faults), "")
    except Permanent:
        return
    assert records == outcomes


@few
@given(damage)
def test_damaged_parquet_is_rows_and_rejects_or_refused(faults: list[tuple[float, str, bytes]]) -> None:
    """Inside of the first and last four bytes, or it would be taken for another format."""
    data = FORMATS["rows.parquet"](TABLE)
    try:
        records, outcomes = counts(data[:4] + damaged(data[4:-4], faults) + data[-4:], "rows.parquet")
    except Permanent:
        return
    assert records == outcomes
