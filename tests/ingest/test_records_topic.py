"""Messages of the records topic as rows or reasons, and the budget of dead letters; no servers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from common.topics import INGEST_RECORDS
from ingest.dead_letter_budget import DeadLetterBudget
from ingest.erased import Erasures, hash_of
from ingest.formats.records import RECORD_BYTES_MAX
from ingest.record_batch import NO_ERASURES, RecordBatch, read_batch
from support.ingest_parts import DATASETS

Headers = tuple[tuple[str, bytes | None], ...]
PEOPLE: Headers = (("dataset", b"people"),)
NOW_MS = 1_700_000_000_000


def message(
    value: Any, *, headers: Headers = PEOPLE, partition: int = 0, offset: int = 0, timestamp: int = NOW_MS
) -> ConsumerRecord:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return ConsumerRecord(
        topic=INGEST_RECORDS.name,
        partition=partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=None,
        value=raw,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=headers,
    )


def read(
    *messages: ConsumerRecord,
    rows_max: int = 50_000,
    bytes_max: int = 16 << 20,
    erasures: Mapping[str, Erasures] = NO_ERASURES,
) -> RecordBatch:
    return read_batch(messages, DATASETS, rows_max=rows_max, bytes_max=bytes_max, erasures=erasures)


def person(number: int) -> dict[str, Any]:
    return {"email": f"p{number}@example.com", "first_name": "Ada", "planet": "Earth"}


def test_each_dataset_gets_its_own_block_and_every_row_its_place_in_the_topic() -> None:
    flight: Headers = (("dataset", b"flights"),)
    batch = read(
        message(person(1), partition=3, offset=40),
        message({"carrier": "UA", "flight": 7}, headers=flight, partition=3, offset=41),
        message(person(2), partition=1, offset=9),
    )
    assert {block.dataset.name: list(block.places) for block in batch.blocks} == {"people": [0, 2], "flights": [1]}
    (people,) = (block for block in batch.blocks if block.dataset.name == "people")
    assert people.rows.columns["email"].to_pylist() == ["p1@example.com", "p2@example.com"]
    assert people.rows.row_numbers.tolist() == [40, 9]
    assert batch.poison == {}


def test_a_value_may_be_written_over_several_lines() -> None:
    batch = read(message(json.dumps(person(1), indent=2).encode()), message(person(2)))
    assert [len(block.rows) for block in batch.blocks] == [2]


@pytest.mark.parametrize(
    ("poison", "reason"),
    [
        (message(b"{not json"), "json_syntax"),
        (message(b""), "json_syntax"),
        (message([1, 2]), "not_an_object"),
        (message(None), "value: none, expected one JSON object"),
        (message(b"\xff\xfe"), "json_syntax"),
        (message(b"[" * 100_000), "json_syntax"),
        (message({"email": "no address"}), "email: email_syntax"),
        (message({"email": ["a@example.com"]}), "email: nested_value"),
        (message(b'"' + b"x" * RECORD_BYTES_MAX + b'"'), f"value: {RECORD_BYTES_MAX + 2} bytes, the most is"),
        (message(person(1), headers=()), "header dataset: expected one with the name of a dataset, found none"),
        (message(person(1), headers=(("dataset", None),)), "found an empty one"),
        (message(person(1), headers=(*PEOPLE, *PEOPLE)), "found 2 of them"),
        (message(person(1), headers=(("dataset", b"\xff\xfe"),)), "is not declared"),
        (message(person(1), headers=(("dataset", b"planets"),)), "'planets' is not declared; there are: flights"),
        (message(person(1), timestamp=-1 << 62), "timestamp: "),
    ],
)
def test_a_poison_message_has_its_reason_and_takes_nobody_along(poison: ConsumerRecord, reason: str) -> None:
    batch = read(message(person(1)), poison, message(person(2)))
    assert list(batch.poison) == [1]
    assert reason in batch.poison[1]
    assert [len(block.rows) for block in batch.blocks] == [2]


def test_headers_that_are_null_or_no_text_do_not_matter_beside_the_dataset() -> None:
    headers: Headers = (("trace", None), ("\udcff", b"\xff"), *PEOPLE)
    assert [len(block.rows) for block in read(message(person(1), headers=headers)).blocks] == [1]


def test_blocks_are_cut_by_rows_and_by_bytes() -> None:
    messages = [message(person(number), offset=number) for number in range(10)]
    assert [len(block.rows) for block in read(*messages, rows_max=4).blocks] == [4, 4, 2]
    assert len(read(*messages, bytes_max=len(messages[0].value) * 2 + 1).blocks) == 5


def test_halves_of_a_block_are_its_rows() -> None:
    (block,) = read(*(message(person(number), offset=number) for number in range(5))).blocks
    first, second = block.half(slice(None, 2)), block.half(slice(2, None))
    assert [*first.places, *second.places] == [0, 1, 2, 3, 4]
    assert second.rows.columns["email"].to_pylist() == [f"p{number}@example.com" for number in (2, 3, 4)]
    assert second.encoded.rows == 3


def test_equal_messages_make_equal_blocks_and_other_offsets_other_versions() -> None:
    once, again, later = (read(message(person(1), offset=offset)).blocks[0].encoded for offset in (5, 5, 6))
    assert once.digest == again.digest != later.digest


def test_who_was_erased_after_a_message_was_sent_is_neither_a_row_nor_a_dead_letter() -> None:
    erasures = {"people": {"email": {hash_of("people", "email", "p1@example.com"): NOW_MS}}}
    batch = read(
        message({"email": " P1@example.com "}, timestamp=NOW_MS - 1),
        message(person(2)),
        message(person(1), timestamp=NOW_MS),
        message(person(1), timestamp=NOW_MS + 1),
        message({"email": ["p1@example.com"]}, timestamp=NOW_MS - 1),
        message({"email": ["p1@example.com"]}, timestamp=NOW_MS + 1),
        erasures=erasures,
    )
    (block,) = batch.blocks
    assert (list(block.places), list(batch.poison), sorted(batch.erased)) == ([1, 3], [5], [0, 2, 4])
    assert block.rows.columns["email"].to_pylist() == ["p2@example.com", "p1@example.com"]
    assert [one.timestamp for one in block.messages] == [NOW_MS, NOW_MS + 1]


def budget(count_max: int = 3, share_max: float = 0.5) -> DeadLetterBudget:
    return DeadLetterBudget("test", count_max=count_max, share_max=share_max)


def test_a_budget_affords_what_is_before_the_first_poison_too_many() -> None:
    assert budget().affords(10, [0, 1, 2, 3, 4]) == 3
    assert budget().affords(10, [0, 1, 2]) == 10


def test_many_poison_messages_among_far_more_good_ones_are_afforded() -> None:
    assert budget().affords(1000, list(range(0, 1000, 3))) == 1000


def test_a_budget_remembers_the_batches_before_and_forgets_by_halves() -> None:
    spending = budget()
    spending.book(4, 3)
    assert spending.affords(5, [0]) == 0
    spending.book(400_000, 0)
    assert spending.affords(5, [0]) == 5
    assert not spending.spent
