"""Uploads as the gateway or a data team makes them, and what became of them, straight from the stores."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import obstore
from aiokafka import AIOKafkaProducer, ConsumerRecord
from obstore.store import LocalStore, ObjectStore, S3Store

from common.bucket import announcement_key, object_key
from common.events import Event, UploadReceived
from common.ids import new_id
from common.topics import INGEST_DEAD, INGEST_UPLOADS, Topic
from devstack.compose import BUCKET, ComposeStack, variables
from devstack.stack import Stack
from support.invariants import clickhouse_admin
from support.polling import until
from support.topic_contents import values_of


def open_stack_bucket(stack: Stack) -> ObjectStore:
    """A folder of the local stack; MinIO of the containers."""
    if not isinstance(stack, ComposeStack):
        return LocalStore(_folder(stack))
    given = variables(stack.site)
    return S3Store(
        BUCKET.removeprefix("s3://"),
        endpoint=f"http://127.0.0.1:{stack.site.ports['minio']}",
        region="us-east-1",
        access_key_id=given["MINIO_ROOT_USER"],
        secret_access_key=given["MINIO_ROOT_PASSWORD"],
        client_options={"allow_http": True},
    )


def objects(stack: Stack) -> set[str]:
    """In a folder also what is half written, which its listing hides."""
    if isinstance(stack, ComposeStack):
        return {one["path"] for page in obstore.list(open_stack_bucket(stack)) for one in page}
    return {str(path.relative_to(_folder(stack))) for path in _folder(stack).rglob("*") if path.is_file()}


def _folder(stack: Stack) -> Path:
    return Path(urlsplit(stack.status().bucket).path)


def store(stack: Stack, data: bytes, dataset: str, filename: str = "test.csv") -> UploadReceived:
    """Put an object and its announcement into the bucket, as the gateway does; nobody is told."""
    upload_id = new_id()
    event = UploadReceived(
        upload_id=upload_id,
        dataset=dataset,
        object_key=object_key(upload_id),
        filename=filename,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        received_at=datetime.now(UTC),
    )
    bucket = open_stack_bucket(stack)
    for key, content in ((event.object_key, data), (announcement_key(upload_id), event.encoded())):
        obstore.put(bucket, key, content)
    return event


async def publish(stack: Stack, topic: Topic, *values: bytes | Event) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.status().to_json()["kafka"], acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic.name, value.encoded() if isinstance(value, Event) else value)
    finally:
        await producer.stop()


async def send(stack: Stack, data: bytes, dataset: str, filename: str = "test.csv") -> UUID:
    event = store(stack, data, dataset, filename)
    await publish(stack, INGEST_UPLOADS, event)
    return event.upload_id


async def status(stack: Stack, upload_id: UUID) -> dict[str, Any] | None:
    rows = await manifest(stack, "SELECT * FROM ingest.upload_status WHERE upload_id = $1", upload_id)
    return rows[0] if rows else None


async def manifest(stack: Stack, query: str, *values: Any) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(str(stack.status().to_json()["postgres"]))
    try:
        return [dict(row) for row in await connection.fetch(query, *values)]
    finally:
        await connection.close()


async def ended(stack: Stack, upload_id: UUID, *, deadline_s: float = 60) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await status(stack, upload_id)
        return found if found and found["finished_at"] else None

    found = await until(f"upload {upload_id} to end", look, deadline_s=deadline_s)
    assert found is not None
    return found


def select(stack: Stack, query: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    client = clickhouse_admin(stack)
    try:
        return [tuple(row) for row in client.query(query, parameters=dict(values or {})).result_rows]
    finally:
        client.close()


def counts(stack: Stack, dataset: str, upload_id: UUID) -> tuple[int, int, int]:
    """Of an upload: rows that a query shows, rows that are stored, rows in quarantine."""
    of_upload = "upload_id = {id:String}"
    (found,) = select(
        stack,
        f"SELECT (SELECT count() FROM bigdata.{dataset} FINAL WHERE {of_upload}), "  # noqa: S608 - a dataset of ours
        f"(SELECT count() FROM bigdata.{dataset} WHERE {of_upload}), "
        f"(SELECT count() FROM bigdata.quarantine WHERE {of_upload})",
        {"id": str(upload_id)},
    )
    return int(found[0]), int(found[1]), int(found[2])


async def dead_letters(stack: Stack) -> list[ConsumerRecord]:
    """Every dead letter of the loaders so far."""
    return await values_of(stack, INGEST_DEAD)
