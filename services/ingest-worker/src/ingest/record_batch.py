"""Messages of the records topic as rows: one JSON object each, of the dataset that its header names.

Pure: no I/O. Every message becomes a row or has a reason why it cannot.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from aiokafka import ConsumerRecord

from common.datasets import Dataset, Datasets
from common.dead_letter import DATASET
from common.errors import Permanent
from common.normalise.moment import EARLIEST, LATEST
from ingest import dataset_table
from ingest.formats.json_lines import JsonLinesReader
from ingest.formats.records import RECORD_BYTES_MAX, REGULAR, Place, Records
from ingest.rows import Rows, rows_of

# Orders rows of the same time from several partitions, above every upload: uploads count up from 1.
_SEQUENCE_BASE = 0xFFFF_0000
_EARLIEST_MS, _LATEST_MS = (int(moment.timestamp() * 1000) for moment in (EARLIEST, LATEST))


@dataclass(frozen=True)
class RecordBlock:
    """Rows of one dataset, for one INSERT. `places`: of each row its message in the batch."""

    dataset: Dataset
    rows: Rows
    messages: Sequence[ConsumerRecord]
    places: Sequence[int]

    def encoded(self) -> dataset_table.Block:
        return dataset_table.encoded(self.rows, _origin(self.messages))

    def half(self, which: slice) -> "RecordBlock":
        """Some of the rows, to find out which one ClickHouse refuses."""
        rows = Rows(
            {name: values[which] for name, values in self.rows.columns.items()},
            self.rows.extra[which],
            self.rows.row_numbers[which],
            self.rows.offsets[which],
            [],
        )
        return RecordBlock(self.dataset, rows, self.messages[which], self.places[which])


@dataclass(frozen=True)
class RecordBatch:
    """`poison`: the places of messages that are no rows, and why."""

    blocks: Sequence[RecordBlock]
    poison: Mapping[int, str]


def read_batch(messages: Sequence[ConsumerRecord], datasets: Datasets, *, rows_max: int, bytes_max: int) -> RecordBatch:
    poison: dict[int, str] = {}
    by_dataset: dict[str, list[int]] = {name: [] for name in datasets}
    plain = {((DATASET, name.encode()),): name for name in datasets}
    for place, message in enumerate(messages):
        try:
            # Most messages have this one header and no other.
            name = plain.get(tuple(message.headers)) or _addressee(message, datasets)
            _check(message)
            by_dataset[name].append(place)
        except Permanent as exc:
            poison[place] = str(exc)
    blocks: list[RecordBlock] = []
    for name, places in by_dataset.items():
        for some in _cut(messages, places, rows_max, bytes_max):
            block, refused = _read(messages, some, datasets[name])
            poison |= refused
            if len(block.rows):
                blocks.append(block)
    return RecordBatch(blocks, dict(sorted(poison.items())))


def _addressee(message: ConsumerRecord, datasets: Datasets) -> str:
    """The dataset that the headers name. Raises Permanent: why none."""
    given = [value for name, value in message.headers if name == DATASET]
    if len(given) != 1 or not given[0]:
        raise Permanent(f"header {DATASET}: expected one with the name of a dataset, found {_count(given)}")
    name: str = given[0].decode("utf-8", "replace")
    if name not in datasets:
        raise Permanent(f"header {DATASET}: {name[:64]!r} is not declared; there are: {', '.join(sorted(datasets))}")
    return name


def _check(message: ConsumerRecord) -> None:
    """Raises Permanent: why it cannot be a row, as far as that shows from outside."""
    if message.value is None:
        raise Permanent("value: none, expected one JSON object")
    if len(message.value) > RECORD_BYTES_MAX:
        raise Permanent(f"value: {len(message.value)} bytes, the most is {RECORD_BYTES_MAX}")
    if not _EARLIEST_MS <= message.timestamp <= _LATEST_MS:
        raise Permanent(f"timestamp: {message.timestamp} ms is outside of {EARLIEST.year} to {LATEST.year}")


def _count(given: Sequence[bytes | None]) -> str:
    return "none" if not given else "an empty one" if len(given) == 1 else f"{len(given)} of them"


def _cut(messages: Sequence[ConsumerRecord], places: list[int], rows_max: int, bytes_max: int) -> Iterator[list[int]]:
    size, some = 0, list[int]()
    for place in places:
        length = len(messages[place].value)
        if some and (len(some) == rows_max or size + length > bytes_max):
            yield some
            size, some = 0, []
        size += length
        some.append(place)
    if some:
        yield some


def _read(
    messages: Sequence[ConsumerRecord], places: Sequence[int], dataset: Dataset
) -> tuple[RecordBlock, dict[int, str]]:
    values = [messages[place].value for place in places]
    ends = np.cumsum([len(value) for value in values], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    kinds = np.full(len(values), REGULAR, np.uint8)
    # Row numbers count from 0 here: they are indexes into `places`.
    piece = Records(b"".join(values), starts, ends, starts, kinds, int(ends[-1]), 0, Place(row=0))
    rows = rows_of(JsonLinesReader(dataset)(piece), dataset)
    poison = {
        places[fault.record]: f"{fault.column}: {fault.reason}" if fault.column else fault.reason
        for fault in rows.faults
    }
    kept = [places[int(number)] for number in rows.row_numbers]
    offsets = np.array([messages[place].offset for place in kept], np.int64)
    placed = replace(rows, row_numbers=offsets, offsets=offsets)
    return RecordBlock(dataset, placed, [messages[place] for place in kept], kept), poison


def _origin(messages: Sequence[ConsumerRecord]) -> dataset_table.Origins:
    """A record's upload is its partition, its row number its offset; it arrived when Kafka says."""
    partitions = np.array([message.partition for message in messages], np.int64)
    names, which = np.unique(partitions, return_inverse=True)
    return dataset_table.Origins(
        upload_ids=[upload_id_of(messages[0].topic, int(number)) for number in names],
        upload=which,
        sequences=_SEQUENCE_BASE + partitions,
        arrived_us=np.array([message.timestamp for message in messages], np.int64) * 1000,
    )


def upload_id_of(topic: str, partition: int) -> str:
    """What stands in upload_id of rows that came by a topic."""
    return f"{topic}/{partition}"
