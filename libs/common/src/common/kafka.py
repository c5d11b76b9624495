"""Kafka, with every default that loses data set otherwise.

aiokafka alone would use acks=1, no idempotence, offset reset latest and automatic commits; FastStream alone would
acknowledge before the work is done, and would raise on a header that is not UTF-8 and so skip the record.
"""

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.helpers import create_ssl_context
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.producer.transaction_manager import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, PidAndEpoch
from faststream.kafka import KafkaBroker
from faststream.middlewares import AckPolicy
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from common import topics
from common.idle_fetches import pace_idle_fetches
from common.lifecycle import in_background
from common.logs import get_logger
from common.settings import KafkaSettings
from common.tracing import Headers, with_carried

_log = get_logger(__name__)
_CONNECT_AGAIN_S = 1.0
# FastStream copies these from whatever a client sent; nothing here answers by header.
_NEVER_COPIED = frozenset({"reply_to", "correlation_id", "content-type"})
_SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


@asynccontextmanager
async def open_producer(settings: KafkaSettings, *, required: bool = True) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer; stopping it flushes what was accepted.

    One that is not required connects in the background, for as long as it takes: its process starts without Kafka,
    and a send waits meanwhile. Bound such a wait by a deadline.
    """
    producer = _Producer(
        bootstrap_servers=settings.kafka_brokers,
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=5,
        max_batch_size=128 * 1024,
        request_timeout_ms=10_000,
        **client_security(settings),
    )
    try:
        if required:
            await producer.start()
            yield producer
        else:
            async with in_background(_connect(producer)):
                yield producer
    finally:
        await producer.stop()


class _Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka publishes no types
    """Sends wait for the first connection. The library's own would ask nobody for metadata, seven times a second.

    What is sent carries the trace it belongs to, and a batch that failed stops none that comes after it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._connected = asyncio.Event()

    async def start(self) -> None:
        await super().start()
        self._connected.set()

    async def send(  # noqa: PLR0917 - as the library's own, which also calls it in this order
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> "asyncio.Future[Any]":
        if not self._connected.is_set():
            await self._connected.wait()
        sent: asyncio.Future[Any] = await super().send(
            topic, value, key, partition, timestamp_ms, with_carried(headers)
        )
        sent.add_done_callback(self._begin_anew)
        return sent

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> "asyncio.Future[Any]":
        sent: asyncio.Future[Any] = await super().send_batch(batch, topic, partition=partition)
        sent.add_done_callback(self._begin_anew)
        return sent

    def _begin_anew(self, sent: "asyncio.Future[Any]") -> None:
        """A batch that failed leaves a hole in the numbers of its partition, and all that follows a hole is refused.

        The library goes on counting behind it for ever. A new id counts from 0; who sent the batch knows of its end.
        """
        manager = self._txn_manager
        if sent.cancelled() or sent.exception() is None or not manager.has_pid():
            return
        _log.warning("kafka refused a batch, going on with a new producer id", fault=repr(sent.exception()))
        manager._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)  # noqa: SLF001 - it offers no other way
        manager._pid_waiter = asyncio.get_running_loop().create_future()  # noqa: SLF001 - as above
        manager._sequence_numbers.clear()  # noqa: SLF001 - as above

    async def partitions_for(self, topic: str) -> set[int]:
        if not self._connected.is_set():
            await self._connected.wait()
        found: set[int] = await super().partitions_for(topic)
        return found


async def _connect(producer: AIOKafkaProducer) -> None:
    while True:
        try:
            await producer.start()
        except KafkaError as exc:
            _log.warning("kafka does not answer, trying again", fault=str(exc), pause_s=_CONNECT_AGAIN_S)
            await asyncio.sleep(_CONNECT_AGAIN_S)
            continue
        return


def consumer_broker(settings: KafkaSettings, *, graceful_s: float) -> KafkaBroker:
    """A FastStream broker for consuming: manual acknowledgement, bodies as bytes, headers that never raise.

    `graceful_s` must exceed the longest handler: a handler that outlives it is cancelled and its offset stays.
    """
    if settings.kafka_idle_pause_s:
        pace_idle_fetches(settings.kafka_idle_pause_s)
    return KafkaBroker(
        settings.kafka_brokers.split(","),
        ack_policy=AckPolicy.MANUAL,
        parser=_harmless_headers,
        decoder=_body_as_bytes,
        security=_broker_security(settings),
        graceful_timeout=graceful_s,
        allow_auto_create_topics=False,
        acks="all",
        enable_idempotence=True,
        apply_types=False,
        logger=None,
    )


def rewind(consumer: AIOKafkaConsumer, records: Iterable[ConsumerRecord]) -> None:
    """Make these records the next ones again: what a handler does with a batch it could not finish.

    FastStream's own nack raises at the first partition that a rebalance took away and leaves the others where they
    are, past records that nobody has handled: the next commit would lose them.
    """
    earliest: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        earliest[place] = min(record.offset, earliest.get(place, record.offset))
    for place in earliest.keys() & consumer.assignment():
        consumer.seek(place, earliest[place])


def next_offsets(records: Iterable[ConsumerRecord]) -> dict[TopicPartition, int]:
    """Where to go on behind these. Within a partition records come in order, so the last one says it."""
    last = {(record.topic, record.partition): record.offset for record in records}
    return {TopicPartition(*place): offset + 1 for place, offset in last.items()}


async def create_topics(brokers: str, *, replication: int = 1, min_insync: int = 1, **security: Any) -> None:
    """Create every topic of the table that is missing; leaves existing ones as they are."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers, **security)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [
            NewTopic(
                topic.name,
                topic.partitions,
                replication,
                topic_configs={"retention.ms": str(topic.retention_ms), "min.insync.replicas": str(min_insync)},
            )
            for topic in topics.ALL
            if topic.name not in existing
        ]
        if missing:
            _raise_unless_exists(await admin.create_topics(missing))
    finally:
        await admin.close()


def _raise_unless_exists(answer: Any) -> None:
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"cannot create topic {name}")


async def _harmless_headers(
    message: ConsumerRecord | tuple[ConsumerRecord, ...], original: Callable[[Any], Awaitable[Any]]
) -> Any:
    if isinstance(message, tuple):
        return await original(tuple(_without_bad_headers(record) for record in message))
    return await original(_without_bad_headers(message))


def _without_bad_headers(record: ConsumerRecord) -> ConsumerRecord:
    if not record.headers:
        return record
    kept = [
        (name, (value or b"").decode("utf-8", "replace").encode())
        for name, value in record.headers
        if name not in _NEVER_COPIED
    ]
    return dataclasses.replace(record, headers=tuple(kept))


async def _body_as_bytes(message: Any, _original: Callable[[Any], Awaitable[Any]] | None = None) -> Any:
    return message.body


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    if not settings.kafka_security.endswith("SSL"):
        return None
    context: ssl.SSLContext = create_ssl_context(cafile=settings.kafka_ca_file)
    return context


def client_security(settings: KafkaSettings) -> dict[str, Any]:
    password = settings.kafka_sasl_password
    return {
        "security_protocol": settings.kafka_security,
        "ssl_context": _ssl_context(settings),
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_user,
        "sasl_plain_password": password.get_secret_value() if password else None,
    }


def _broker_security(settings: KafkaSettings) -> BaseSecurity | None:
    context = _ssl_context(settings)
    if not settings.kafka_security.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=True) if context else None
    password = settings.kafka_sasl_password
    return _SASL[settings.kafka_sasl_mechanism](
        username=settings.kafka_sasl_user or "",
        password=password.get_secret_value() if password else "",
        ssl_context=context,
        use_ssl=context is not None,
    )
