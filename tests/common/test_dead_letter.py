import dataclasses
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from common.dead_letter import bury
from common.errors import Transient
from common.topics import AUDIT_DEAD
from support.audit_events import records_of


class Producer:
    """Remembers what was sent; refuses values beyond its limit, or everything."""

    def __init__(self, limit: int = 1 << 20, error: Exception | None = None) -> None:
        self.limit, self.error = limit, error
        self.sent: list[tuple[Any, ...]] = []

    async def send_and_wait(self, topic: str, value: Any, key: Any = None, *, headers: Any) -> None:
        if self.error:
            raise self.error
        if len(value or b"") > self.limit:
            raise MessageSizeTooLargeError
        self.sent.append((topic, value, key, dict(headers)))


async def test_a_dead_letter_has_the_original_bytes_and_says_where_they_were_and_why() -> None:
    producer = Producer()
    await bury(producer, AUDIT_DEAD, records_of([b"\xff"], partition=2, first=9)[0], "no good")
    headers = {
        "reason": b"no good",
        "topic": b"audit.requests.v1",
        "partition": b"2",
        "offset": b"9",
        "timestamp": b"0",
    }
    assert producer.sent == [("audit.dead.v1", b"\xff", b"key", headers)]


async def test_of_the_headers_it_came_with_only_the_dataset_is_kept() -> None:
    producer = Producer()
    (record,) = records_of([b"{}"])
    headers = (("reply_to", b"elsewhere"), ("dataset", None), ("dataset", b"people"), ("reason", b"forged"))
    await bury(producer, AUDIT_DEAD, dataclasses.replace(record, headers=headers), "no good")
    ((_, _, _, kept),) = producer.sent
    assert (kept["dataset"], kept["reason"]) == (b"people", b"no good")
    assert "reply_to" not in kept


async def test_an_oversize_record_is_buried_cut_with_its_size() -> None:
    producer = Producer()
    await bury(producer, AUDIT_DEAD, records_of([b"x" * (2 << 20)])[0], "no good")
    ((_, value, _, headers),) = producer.sent
    assert value == b"x" * (256 << 10)
    assert headers["truncated_from"] == str((2 << 20) + 3).encode()


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), OSError("away")])
async def test_a_broker_that_is_away_is_transient(error: Exception) -> None:
    with pytest.raises(Transient):
        await bury(Producer(error=error), AUDIT_DEAD, records_of([b"x"])[0], "no good")
