"""The subscription to audit.requests.v1, in batches."""

from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from audit.settings import Settings
from common.intake import BatchLimits, Intake, whole_message
from common.topics import AUDIT_REQUESTS


def subscribe(broker: KafkaBroker, intake: Intake, settings: Settings) -> BatchSubscriber:
    subscriber: BatchSubscriber = broker.subscriber(
        AUDIT_REQUESTS.name,
        group_id=settings.audit_group,
        group_instance_id=settings.kafka_instance_id,
        batch=True,
        max_records=settings.batch_rows_max,
        batch_timeout_ms=settings.batch_ms_max,
        auto_offset_reset="earliest",
        decoder=whole_message,
    )
    subscriber(intake.take)
    return subscriber


def batch_limits(settings: Settings) -> BatchLimits:
    return BatchLimits(settings.batch_rows_max, settings.batch_bytes_max, settings.batch_gather_s)
