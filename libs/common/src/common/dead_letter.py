"""Dead letters: what no retry can help goes to a topic of its own, as it came, with the reason."""

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from common.errors import Transient
from common.logs import get_logger
from common.metrics import counter
from common.topics import Topic

# A record may have passed a broker or codec with a larger limit than the dead letters' topic has.
_BYTES_KEPT_OF_OVERSIZE = 256 * 1024
_REASON_CHARS_MAX = 500
# The only header of the original that a replay needs; whatever else a client sent stays behind.
DATASET = "dataset"
_DATASET_BYTES_MAX = 255

_log = get_logger(__name__)
_dead_letters = counter("bigdata_dead_letters_total", "Records that no retry could help", "topic")


async def bury(producer: AIOKafkaProducer, topic: Topic, record: ConsumerRecord, reason: str) -> None:
    """Publish the original key and bytes with headers reason, topic, partition, offset, timestamp; wait until it is
    acknowledged.

    Raises Transient when the broker does not take it: the record must then keep its place. Call it before the offset
    is committed, so a crash repeats a dead letter rather than losing one. Of the headers it came with `dataset` alone
    is copied.
    """
    headers = [
        ("reason", reason[:_REASON_CHARS_MAX].encode("utf-8", "replace")),
        ("topic", record.topic.encode()),
        ("partition", str(record.partition).encode()),
        ("offset", str(record.offset).encode()),
        ("timestamp", str(record.timestamp).encode()),
        *_dataset_of(record),
    ]
    try:
        await _send(producer, topic, record, headers)
    except (KafkaError, OSError) as exc:
        raise Transient(f"{topic.name} does not take dead letters: {exc!r}") from exc
    _dead_letters.labels(record.topic).inc()
    _log.warning(
        "dead letter",
        reason=reason,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        to=topic.name,
    )


def _dataset_of(record: ConsumerRecord) -> list[tuple[str, bytes]]:
    given = next((value for name, value in record.headers if name == DATASET and value), b"")
    return [(DATASET, bytes(given[:_DATASET_BYTES_MAX]))] if given else []


async def _send(
    producer: AIOKafkaProducer, topic: Topic, record: ConsumerRecord, headers: list[tuple[str, bytes]]
) -> None:
    try:
        await producer.send_and_wait(topic.name, record.value, record.key, headers=headers)
    except MessageSizeTooLargeError:
        size = len(record.value or b"") + len(record.key or b"")
        value = (record.value or b"")[:_BYTES_KEPT_OF_OVERSIZE]
        await producer.send_and_wait(topic.name, value, headers=[*headers, ("truncated_from", str(size).encode())])
