"""What lies in the dead letters, and sending it again to where it came from.

Which letters were sent again is kept as the offsets of a consumer group, so that a second replay sends only new ones.
"""

import base64
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from common import topics
from common.dead_letter import DATASET
from common.errors import Permanent, Transient
from common.kafka import client_security, open_producer
from common.settings import KafkaSettings

REPLAY_GROUP = "dead-letters-replay"
_SOURCES = {topic.name for topic in topics.ALL if topic not in topics.DEAD}
_FETCH_MS = 500
# A partition whose end is never reached (records that a broker lost) must not hold the command for ever.
_SILENT_FETCHES_MAX = 20

Place = tuple[int, int]  # partition and offset in the dead letters' topic


class BrokerSettings(KafkaSettings):
    """KAFKA_BROKERS and how to log in there; of the settings file only what every process has."""

    config_section: ClassVar[str] = "dead_letters"


@dataclass(frozen=True)
class Letter:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    replayed: bool

    def text(self, header: str) -> str | None:
        found = self.headers.get(header)
        return None if found is None else found.decode("utf-8", "replace")

    @property
    def why_not(self) -> str | None:
        """Why it cannot be sent again; None when it can."""
        if "truncated_from" in self.headers:
            return f"only the beginning of its {self.text('truncated_from')} bytes was kept"
        if self.text("topic") not in _SOURCES:
            return f"it names {self.text('topic')!r} as the topic that it came from"
        return None

    def document(self) -> dict[str, Any]:
        """For --json. A value that is no text comes as base64."""
        number = {name: _number(self.text(name)) for name in ("partition", "offset", "timestamp", "truncated_from")}
        return {
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "reason": self.text("reason"),
            "source": {
                "topic": self.text("topic"),
                "partition": number["partition"],
                "offset": number["offset"],
                "timestamp_ms": number["timestamp"],
            },
            DATASET: self.text(DATASET),
            **_shown("key", self.key),
            **_shown("value", self.value),
            "truncated_from": number["truncated_from"],
            "replayed": self.replayed,
        }


@dataclass(frozen=True)
class Replayed:
    sent: int
    kept: Sequence[Letter]  # cannot be sent again


async def newest(settings: KafkaSettings, topic: str, limit: int) -> list[Letter]:
    """Of each partition the last ones, as many as `limit` in all. Raises Transient when the broker is away."""
    async with _box(settings, topic) as box:
        begin, end = await box.beginning_offsets(box.assignment()), await box.end_offsets(box.assignment())
        starts = {place: max(begin[place], end[place] - limit) for place in end}
        found = [letter async for letter in _read(box, starts, end)]
    return sorted(found, key=lambda letter: (_number(letter.text("timestamp")) or 0, letter.offset))[-limit:]


async def replay(
    settings: KafkaSettings, topic: str, *, only: Collection[Place] = (), dataset: str | None = None
) -> Replayed:
    """Send every letter that was not sent before, or those at these places, to where they came from.

    With their own time: what was sent again is not newer than what came after it. `dataset` replaces the header.
    """
    sent, kept = 0, list[Letter]()
    async with _box(settings, topic) as box, open_producer(settings) as producer:
        end = await box.end_offsets(box.assignment())
        begin = await box.beginning_offsets(box.assignment())
        starts = {place: max(begin[place], await box.committed(place) or 0) for place in end}
        if only:
            _refuse_missing(only, topic, begin, end)
            starts = {
                place: min([at for part, at in only if part == place.partition], default=end[place]) for place in end
            }
        async for letter in _read(box, starts, end):
            if only and (letter.partition, letter.offset) not in only:
                continue
            if letter.why_not:
                kept.append(letter)
            else:
                await _send(producer, letter, dataset)
                sent += 1
        offsets = {place: offset for place, offset in end.items() if offset}
        if not only and offsets:  # a commit of nothing is refused
            # After the broker has them all: a replay that dies begins again, and identity folds what comes twice.
            await box.commit(offsets)
    return Replayed(sent, kept)


@asynccontextmanager
async def _box(settings: KafkaSettings, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of all partitions, by name and number: the client alone knows only topics it has read before."""
    options = {"bootstrap_servers": settings.kafka_brokers, **client_security(settings)}
    consumer = AIOKafkaConsumer(
        group_id=REPLAY_GROUP, enable_auto_commit=False, auto_offset_reset="earliest", **options
    )
    try:
        partitions = await _partitions(topic, options)
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in partitions])
        yield consumer
    except (KafkaError, OSError) as exc:
        raise Transient(f"Kafka at {settings.kafka_brokers} does not answer: {exc!r}") from exc
    finally:
        await consumer.stop()


async def _partitions(topic: str, options: Mapping[str, Any]) -> list[int]:
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        described = await admin.describe_topics([topic])
    finally:
        await admin.close()
    found = [int(one["partition"]) for one in described[0]["partitions"]]
    if described[0]["error_code"] or not found:
        raise Permanent(f"there is no topic {topic}")
    return sorted(found)


async def _read(
    box: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> AsyncIterator[Letter]:
    done = {place: await box.committed(place) or 0 for place in ends}
    for place, start in starts.items():
        box.seek(place, start)
    left = {place for place in ends if starts[place] < ends[place]}
    silent = 0
    while left and silent < _SILENT_FETCHES_MAX:
        batches = await box.getmany(*left, timeout_ms=_FETCH_MS)
        silent = 0 if batches else silent + 1
        for place, records in batches.items():
            for record in records:
                if record.offset < ends[place]:
                    yield _letter(record, replayed=record.offset < done[place])
            if records[-1].offset + 1 >= ends[place]:
                left.discard(place)


def _letter(record: ConsumerRecord, *, replayed: bool) -> Letter:
    headers = {name: value or b"" for name, value in record.headers}
    return Letter(record.topic, record.partition, record.offset, record.key, record.value, headers, replayed)


async def _send(producer: AIOKafkaProducer, letter: Letter, dataset: str | None) -> None:
    given = dataset.encode() if dataset else letter.headers.get(DATASET)
    moment = _number(letter.text("timestamp"))
    await producer.send_and_wait(
        cast("str", letter.text("topic")),
        letter.value,
        letter.key,
        timestamp_ms=moment if moment and moment > 0 else None,
        headers=[(DATASET, given)] if given else None,
    )


def _refuse_missing(
    only: Collection[Place], topic: str, begin: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
) -> None:
    for partition, offset in only:
        place = TopicPartition(topic, partition)
        if place not in end or not begin[place] <= offset < end[place]:
            raise Permanent(f"{topic} has nothing at {partition}:{offset}")


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _shown(name: str, raw: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}
