"""Pieces of the loader for tests without servers."""

from typing import Any

from common.datasets import Dataset, load_datasets
from ingest.cutting import cuts
from ingest.examine import Said, examined
from ingest.formats.batch import Batch
from ingest.formats.layout import Layout
from ingest.formats.sandbox import Limits
from ingest.reading import Reading
from ingest.rows import Rows, rows_of
from ingest.source import Bytes
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


LIMITS = Limits()


def layout_of(data: bytes, target: Dataset, filename: str = "") -> Layout:
    return examined(Bytes(data), target, LIMITS, Said(filename))


def batches(
    data: bytes, target: Dataset, filename: str = "", *, chunk_bytes: int = 1 << 40, limits: Limits = LIMITS
) -> list[Batch]:
    """Of a file as planner and loaders read it together."""
    stored = Bytes(data)
    layout = examined(stored, target, limits, Said(filename))
    return [
        batch
        for chunk in cuts(layout, stored, chunk_bytes)
        for batch in Reading(layout, chunk, stored, target, limits).batches()
    ]


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
