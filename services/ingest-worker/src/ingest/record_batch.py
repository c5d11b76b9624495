"""Messages of the records topic as rows: one JSON object each, of the dataset that its header names.

Pure: no I/O. Every message becomes a row or has a reason why it cannot.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from aiokafka import ConsumerRecord

from common.datasets import Dataset, Datasets
from common.dead_letter import DATASET
from common.errors import Permanent
from common.normalise.moment import EARLIEST, LATEST
from ingest import dataset_table
from ingest.erased import Erasures, erased_after, names_erased
from ingest.formats.json_lines import JsonLinesReader
from ingest.formats.records import RECORD_BYTES_MAX, REGULAR, Place, Positions, Records
from ingest.rows import Rows, rows_of

NO_ERASURES: Mapping[str, Erasures] = {}
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

    @cached_property
    def encoded(self) -> dataset_table.Block:
        """Made at the first asking; of what a batch has, by its `encode`."""
        return dataset_table.encoded(self.rows, _origin(self.messages))

    def half(self, which: slice) -> "RecordBlock":
        """Some of the rows, to find out which one ClickHouse refuses."""
        return self._only(np.arange(len(self.rows))[which])

    def without(self, places: Collection[int]) -> "RecordBlock":
        return self._only(np.flatnonzero([place not in places for place in self.places]))

    def _only(self, kept: Positions) -> "RecordBlock":
        indexes = pa.array(kept)
        rows = Rows(
            {name: values.take(indexes) for name, values in self.rows.columns.items()},
            self.rows.extra.take(indexes),
            self.rows.row_numbers[kept],
            self.rows.offsets[kept],
            [],
        )
        chosen = kept.tolist()
        return RecordBlock(
            self.dataset, rows, [self.messages[one] for one in chosen], [self.places[one] for one in chosen]
        )


@dataclass(frozen=True)
class RecordBatch:
    """`poison`: the places of messages that are no rows, and why; `erased`: those of people who were erased since."""

    blocks: Sequence[RecordBlock]
    poison: Mapping[int, str]
    erased: frozenset[int] = frozenset()

    def encode(self) -> None:
        """Blocking: some 20 ms of work."""
        for block in self.blocks:
            _ = block.encoded


def read_batch(
    messages: Sequence[ConsumerRecord],
    datasets: Datasets,
    *,
    rows_max: int,
    bytes_max: int,
    erasures: Mapping[str, Erasures] = NO_ERASURES,
) -> RecordBatch:
    poison: dict[int, str] = {}
    erased: set[int] = set()
    blocks: list[RecordBlock] = []
    for name, places in _by_dataset(messages, datasets, poison).items():
        since = erasures.get(name, {})
        for some in _cut(messages, places, rows_max, bytes_max):
            block, refused = _read(messages, some, datasets[name])
            gone = _erased(block, refused, messages, since)
            erased |= gone
            poison |= {place: reason for place, reason in refused.items() if place not in gone}
            if gone:
                block = block.without(gone)
            if len(block.rows):
                blocks.append(block)
    return RecordBatch(blocks, dict(sorted(poison.items())), frozenset(erased))


def _by_dataset(
    messages: Sequence[ConsumerRecord], datasets: Datasets, poison: dict[int, str]
) -> Mapping[str, list[int]]:
    """The places of each dataset's messages; `poison` gets the others."""
    found: dict[str, list[int]] = {name: [] for name in datasets}
    plain = {((DATASET, name.encode()),): name for name in datasets}
    for place, message in enumerate(messages):
        # Most messages have this one header and no other.
        name = plain.get(tuple(message.headers))
        value = message.value
        if name and value is not None and len(value) <= RECORD_BYTES_MAX and _is_in_range(message.timestamp):
            found[name].append(place)
            continue
        try:
            name = _addressee(message, datasets)
            _check(message)
            found[name].append(place)
        except Permanent as exc:
            poison[place] = str(exc)
    return found


def _erased(
    block: RecordBlock, refused: Mapping[int, str], messages: Sequence[ConsumerRecord], erasures: Erasures
) -> set[int]:
    """The places of what arrived before an erasure and says what was erased: neither a row nor a dead letter."""
    if not erasures:
        return set()
    hit = erased_after(block.rows, block.dataset, erasures, _arrived_ms(block.messages))
    found = {block.places[int(row)] for row in np.flatnonzero(hit)}
    for place in refused:
        message = messages[place]
        later = {
            name: frozenset(one for one, at in moments.items() if at >= message.timestamp)
            for name, moments in erasures.items()
        }
        if names_erased(message.value, block.dataset, later):
            found.add(place)
    return found


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
    if not _is_in_range(message.timestamp):
        raise Permanent(f"timestamp: {message.timestamp} ms is outside of {EARLIEST.year} to {LATEST.year}")


def _is_in_range(timestamp: int) -> bool:
    return _EARLIEST_MS <= timestamp <= _LATEST_MS


def _count(given: Sequence[bytes | None]) -> str:
    return "none" if not given else "an empty one" if len(given) == 1 else f"{len(given)} of them"


def _cut(messages: Sequence[ConsumerRecord], places: list[int], rows_max: int, bytes_max: int) -> Iterator[list[int]]:
    if places and len(places) <= rows_max and sum(len(messages[place].value) for place in places) <= bytes_max:
        yield places
        return
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
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    ends = np.cumsum(sizes + 1) - 1
    starts = ends - sizes
    kinds = np.full(len(values), REGULAR, np.uint8)
    # Row numbers count from 0 here: they are indexes into `places`.
    piece = Records(b"\n".join(values), starts, ends, starts, kinds, int(ends[-1]), 0, Place(row=0))
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
        arrived_us=_arrived_ms(messages) * 1000,
    )


def _arrived_ms(messages: Sequence[ConsumerRecord]) -> Positions:
    return np.array([message.timestamp for message in messages], np.int64)


def upload_id_of(topic: str, partition: int) -> str:
    """What stands in upload_id of rows that came by a topic."""
    return f"{topic}/{partition}"
