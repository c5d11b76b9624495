"""Pieces of the loader for tests without servers."""

import io
from typing import Any

from common.datasets import Dataset, load_datasets
from ingest.formats.batch import Batch
from ingest.formats.layout import Layout
from ingest.formats.readers import reader_of
from ingest.formats.records import pieces
from ingest.formats.sniff import Sample, sniff
from ingest.rows import Rows, rows_of
from ingest.source import text_source
from support.repository import ROOT

DATASETS = load_datasets(ROOT / "configs/datasets")
PEOPLE = DATASETS["people"]
FLIGHTS = DATASETS["flights"]


def dataset(**changes: Any) -> Dataset:
    """A small dataset, declared as a file would."""
    declaration = {
        "name": "things",
        "identity": ["email", "phone", ["source", "source_id"]],
        "columns": {
            "email": {"type": "string", "normalise": "email", "aliases": ["mail"]},
            "phone": {"type": "string", "normalise": "phone"},
            "country": {"type": "country"},
            "age": {"type": "integer"},
            "source": {"type": "string"},
            "source_id": {"type": "string"},
            "note": {"type": "json"},
            "record_ts": {"type": "timestamp"},
        },
    }
    return Dataset.model_validate(declaration | changes)


def layout_of(data: bytes, target: Dataset, filename: str = "") -> Layout:
    return sniff(Sample(data, whole=True, filename=filename), target)


def batches(data: bytes, target: Dataset, filename: str = "") -> list[Batch]:
    layout = layout_of(data, target, filename)
    text = text_source(io.BytesIO(data), layout.encoding)
    text.read(layout.offset)
    read = reader_of(layout, target)
    return [read(piece) for piece in pieces(text, layout.dialect, layout.place, at_most=100_000)]


def loaded(data: bytes, target: Dataset, filename: str = "") -> Rows:
    """The rows of a file that is one piece."""
    (batch,) = batches(data, target, filename)
    return rows_of(batch, target)


def column(rows: Rows, name: str) -> list[Any]:
    found: list[Any] = rows.columns[name].to_pylist()
    return found


def reasons(rows: Rows) -> list[tuple[int, str, str]]:
    """Of each rejected record: its index, the reason, the column."""
    return sorted((fault.record, fault.reason, fault.column) for fault in rows.faults)
