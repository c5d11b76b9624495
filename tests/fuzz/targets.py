"""What may be done with any bytes, and what must then be true. Each target returns, whatever it is given, or has found
something.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from audit.entries import Window, _read_by_model, _read_plain, _refuse_impossible, read_entry
from common import events
from common.errors import ClientError, InvalidRequest, Permanent
from common.http import parse_body
from common.normalise import moment
from gateway.query_formats import FORMS
from gateway.query_plan import Terms, plan_query
from gateway.query_request import QueryRequest
from ingest.bucket_events import _created
from ingest.cutting import cuts
from ingest.examine import Said, examined
from ingest.formats.layout import Layout
from ingest.formats.sandbox import Limits
from ingest.reading import Reading
from ingest.record_batch import read_batch
from ingest.rows import rows_of
from ingest.source import Bytes
from support.ingest_parts import DATASETS, dataset
from support.open_sandbox import open_sandbox
from support.plans import assert_only_our_sql, datasets
from support.world import record

# What the first byte of a file's input stands for: the name that it is sent under.
NAMES: Final = ("", "a.csv", "a.tsv", "a.jsonl", "a.json", "a.xml", "a.csv.gz", "a.zst", "a.zip", "a.txt")
_THINGS, _DATASETS = dataset(), datasets()
_LIMITS: Final = Limits(output_bytes_max=32 << 20, ratio_from_bytes=1 << 20)
_SMALL_CHUNK_BYTES: Final = 64
_EVENTS: Final = (
    events.UploadReceived,
    events.ChunkPlanned,
    events.UndoRequested,
    events.ReplayRequested,
    events.EraseRequested,
    events.RequestFinished,
    events.CreditsGranted,
    events.CreditsCaptured,
    events.CreditsRefunded,
    events.LowBalance,
    events.CreditsExhausted,
)
_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
_WINDOW = Window.around(_NOW, retention_days=30, future_max_s=3600)
_HEADERS: Final[tuple[tuple[tuple[str, bytes | None], ...], ...]] = (
    (("dataset", b"people"),),
    (("dataset", b"flights"),),
    (),
    (("dataset", None),),
    (("dataset", b"\xff"),),
    (("dataset", b"people"), ("dataset", b"people")),
    (("reply-to", b"x"), ("dataset", b"people")),
)


def files(data: bytes) -> None:
    """A file is refused in a sentence, or each of its records is a row or has a reason, in one piece as in many."""
    said, stored = Said(NAMES[data[0] % len(NAMES)] if data else ""), Bytes(data[1:])
    with open_sandbox(), suppress(Permanent):
        layout = examined(stored, _THINGS, _LIMITS, said)
        # As the manifest keeps it, in Postgres.
        kept = layout.model_dump_json()
        assert "\\u0000" not in kept
        assert Layout.model_validate_json(kept) == layout
        whole = _outcomes(layout, stored, 1 << 40)
        if layout.divisible:
            cut = _outcomes(layout, stored, _SMALL_CHUNK_BYTES)
            assert [record for record, _ in cut] == [record for record, _ in whole]
            # Whether an odd line is the end of a quote that another line left open is only known within a chunk.
            assert cut == whole or b'"' in data


def _outcomes(layout: Any, stored: Bytes, chunk_bytes: int) -> list[tuple[int, str]]:
    """Of each record, by its number in the file: its row's identity, or the reason why it is none."""
    found: list[tuple[int, str]] = []
    for chunk in cuts(layout, stored, chunk_bytes):
        for batch in Reading(layout, chunk, stored, _THINGS, _LIMITS).batches():
            rows = rows_of(batch, _THINGS)
            reasons = {fault.record: f"{fault.reason} {fault.column}" for fault in rows.faults}
            accepted = rows.row_numbers - batch.piece.place.row
            assert not reasons.keys() & set(accepted.tolist())
            assert len(reasons) + len(accepted) == len(batch.piece)
            [batch.piece.raw(fault.record) for fault in rows.faults]
            first = batch.piece.place.row
            found += [(first + number, reason) for number, reason in reasons.items()]
            emails = rows.columns["email"].to_pylist()
            found += [(int(number), str(email)) for number, email in zip(rows.row_numbers, emails, strict=True)]
    return sorted(found)


def queries(data: bytes) -> None:
    """A body is refused with the place of its fault, or becomes SQL that holds no text of it."""
    form = FORMS[tuple(FORMS)[data[0] % len(FORMS)]] if data else FORMS["json"]
    pii = bool(data) and data[0] < 1 << 7
    try:
        planned = plan_query(parse_body(QueryRequest, data[1:]), _DATASETS, Terms(pii=pii, form=form))
    except ClientError as exc:
        refusal: ClientError = exc
    else:
        assert_only_our_sql(planned)
        assert planned.price(rows=planned.limit, rows_read=1 << 62) <= planned.price_cap
        return
    assert refusal.status in {400, 413, 422}
    if isinstance(refusal, InvalidRequest):
        assert all(fault["path"] and fault["error"] for fault in refusal.details)


def messages(data: bytes) -> None:
    """What a topic brings is an event, a row or a notice, or has a reason why it is none; and nothing else happens."""
    kind, value = (data[0], data[1:]) if data else (0, b"")
    with suppress(Permanent):
        event = events.event_of(_EVENTS[kind % len(_EVENTS)], value)
        assert events.event_of(type(event), event.encoded()) == event
    with suppress(Permanent):
        list(_created(value))
    with suppress(Permanent):
        read_entry(value, _WINDOW)
    _read_alike(value)
    _as_records(kind, value)


def _read_alike(value: bytes) -> None:
    """What the log's quick way takes, the model takes, and both make the same of it."""
    quick = _read_plain(value)
    if quick is None:
        return
    with suppress(Permanent):  # what the log refuses anyway need not be alike
        _refuse_impossible(quick, _WINDOW)
        assert quick == _read_by_model(value)


def _as_records(kind: int, value: bytes) -> None:
    at = moment.EARLIEST.timestamp() * 1000 + kind
    lines = [
        replace(record(line), headers=_HEADERS[(kind + number) % len(_HEADERS)], timestamp=int(at), offset=number)
        for number, line in enumerate(value.split(b"\n"))
    ]
    batch = read_batch(lines, DATASETS, rows_max=7, bytes_max=1 << 16)
    rows = [place for block in batch.blocks for place in block.places]
    assert sorted([*rows, *batch.poison]) == list(range(len(lines)))
    assert all(batch.poison.values())


TARGETS: Mapping[str, Callable[[bytes], None]] = {"files": files, "queries": queries, "messages": messages}
