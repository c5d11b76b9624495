"""The inbox on a folder and on S3. S3 is moto's server (support/s3.py): the S3 protocol, not Amazon's program."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import obstore
import orjson
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaConnectionError
from obstore.store import LocalStore, ObjectStore

from common.bucket import announcement_key
from common.errors import Permanent, Transient
from common.events import UploadReceived
from common.ids import new_id
from ingest.bucket_events import BucketEvents
from ingest.inbox import Inbox
from ingest.settings import Settings
from support.audit_events import StoppedClock, records_of
from support.ingest_parts import DATASETS
from support.polling import eventually
from support.s3 import BUCKET, S3, open_s3

SETTINGS = Settings.model_validate(
    {
        "postgres_url": "postgresql://nowhere",
        "kafka_brokers": "nowhere:1",
        "clickhouse_user": "nobody",
        "clickhouse_password": "none",
        "bucket_url": "file:///nowhere",
    }
)
DATA = b"email\na@example.com\n"


class Producer:
    def __init__(self) -> None:
        self.away = False
        self.events: list[UploadReceived] = []

    async def send_and_wait(self, _topic: str, value: bytes, _key: bytes) -> None:
        if self.away:
            raise KafkaConnectionError("away")
        self.events.append(UploadReceived.model_validate_json(value))


@pytest_asyncio.fixture(scope="module")
async def s3() -> AsyncIterator[S3]:
    async with open_s3() as running:
        yield running


@pytest.fixture(params=["folder", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, s3: S3) -> ObjectStore:
    return LocalStore(tmp_path) if request.param == "folder" else s3.store(f"test-{new_id()}")


class Watch:
    """An inbox and what it told; `settled` lets time pass until drops are stable and taken."""

    def __init__(self, bucket: ObjectStore, **changes: Any) -> None:
        self.bucket, self.clock, self.producer = bucket, StoppedClock(), Producer()
        settings = SETTINGS.model_copy(update=changes)
        self.inbox = Inbox(bucket, self.producer, DATASETS, self.clock, settings)

    async def settled(self) -> list[UploadReceived]:
        for _ in range(2):
            await self.inbox.look()
            self.clock.seconds += 10
        await eventually(lambda: not self.inbox._taking, deadline_s=30)
        return self.producer.events


def keys(bucket: ObjectStore, prefix: str = "") -> list[str]:
    return sorted(meta["path"] for page in obstore.list(bucket, prefix) for meta in page)


async def test_a_drop_is_copied_hashed_announced_and_gone_from_the_inbox(bucket: ObjectStore) -> None:
    obstore.put(bucket, "inbox/people/2026/a b+ä%.csv", DATA)
    watch = Watch(bucket)
    (event,) = await watch.settled()
    assert (event.dataset, event.filename, event.size) == ("people", "2026/a b+ä%.csv", len(DATA))
    assert event.sha256 == hashlib.sha256(DATA).hexdigest()
    assert bytes(obstore.get(bucket, event.object_key).bytes()) == DATA
    announced = obstore.get(bucket, announcement_key(event.upload_id)).bytes()
    assert UploadReceived.model_validate_json(bytes(announced)) == event
    assert keys(bucket, "inbox/") == []


async def test_a_file_that_still_grows_waits(bucket: ObjectStore) -> None:
    watch = Watch(bucket)
    for size in range(1, 4):
        obstore.put(bucket, "inbox/people/grows.csv", DATA * size)
        await watch.inbox.look()
        watch.clock.seconds += 10
    assert watch.producer.events == []
    (event,) = await watch.settled()
    assert event.size == 3 * len(DATA)


async def test_what_is_hidden_unfinished_or_of_no_dataset_stays(bucket: ObjectStore) -> None:
    names = ["people/.hidden.csv", "people/.done/a.csv", "people/a.csv.part", "people/a.tmp", "planets/a.csv", "a.csv"]
    for name in names:
        obstore.put(bucket, f"inbox/{name}", DATA)
    assert await Watch(bucket).settled() == []
    assert keys(bucket, "inbox/") == sorted(f"inbox/{name}" for name in names)


async def test_two_watchers_at_once_make_one_upload(bucket: ObjectStore) -> None:
    for number in range(3):
        obstore.put(bucket, f"inbox/people/{number}.csv", DATA * (number + 1))
    one, two = Watch(bucket), Watch(bucket)
    told = [event for found in await asyncio.gather(one.settled(), two.settled()) for event in found]
    assert len({event.upload_id for event in told}) == 3
    assert len(keys(bucket, "uploads/")) == 6
    assert keys(bucket, "inbox/") == []


async def test_a_drop_of_the_same_name_with_other_content_is_another_upload(bucket: ObjectStore) -> None:
    watch = Watch(bucket)
    obstore.put(bucket, "inbox/people/daily.csv", DATA)
    await watch.settled()
    obstore.put(bucket, "inbox/people/daily.csv", DATA * 2)
    first, second = await watch.settled()
    assert first.upload_id != second.upload_id
    assert bytes(obstore.get(bucket, first.object_key).bytes()) == DATA


async def test_without_kafka_it_is_in_the_bucket_and_the_next_look_takes_it_out_of_the_inbox(
    bucket: ObjectStore,
) -> None:
    watch = Watch(bucket)
    watch.producer.away = True
    obstore.put(bucket, "inbox/people/a.csv", DATA)
    assert await watch.settled() == []
    assert [key for key in keys(bucket, "uploads/") if key.endswith("received.json")], "the watch announces it again"
    watch.producer.away = False
    await watch.settled()
    assert keys(bucket, "inbox/") == []


async def test_files_that_are_kept_are_taken_once(bucket: ObjectStore) -> None:
    watch = Watch(bucket, inbox_keep=True)
    obstore.put(bucket, "inbox/people/a.csv", DATA)
    for _ in range(3):
        await watch.settled()
    assert len(watch.producer.events) == 1
    assert await Watch(bucket, inbox_keep=True).settled() == []
    assert keys(bucket, "inbox/") == ["inbox/people/a.csv"]


async def test_names_that_a_store_cannot_express_hide_nothing_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "inbox" / "people"
    folder.mkdir(parents=True)
    (folder / "\x1b[31m.csv").write_bytes(DATA)
    (folder / "line\nbreak.csv").write_bytes(DATA)
    (folder / "back\\slash.csv").write_bytes(DATA)
    (folder / "link.csv").symlink_to("/etc/hostname")
    (folder / "good.csv").write_bytes(DATA)
    told = await Watch(LocalStore(tmp_path)).settled()
    assert "good.csv" in {event.filename for event in told}
    assert all(event.filename.isprintable() for event in told)
    assert "link.csv" not in {event.filename for event in told}


def notice(kind: str, key: str) -> bytes:
    record = {"s3": {"bucket": {"name": BUCKET}, "object": {"key": quote_plus(key), "size": 20, "eTag": "x"}}}
    documents: dict[str, Any] = {
        "minio": {
            "EventName": "s3:ObjectCreated:Put",
            "Key": f"{BUCKET}/{key}",
            "Records": [record | {"eventName": "s3:ObjectCreated:Put"}],
        },
        "aws": {"Records": [record | {"eventSource": "aws:s3", "eventName": "ObjectCreated:CompleteMultipartUpload"}]},
        "eventbridge": {
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
        },
    }
    return orjson.dumps(documents[kind])


@pytest.mark.parametrize("kind", ["minio", "aws", "eventbridge"])
async def test_a_notice_of_the_store_takes_a_drop_at_once(kind: str, s3: S3) -> None:
    prefix = f"test-{new_id()}"
    bucket = s3.store(prefix)
    watch = Watch(bucket)
    events = BucketEvents(watch.inbox.take, f"s3://{BUCKET}/{prefix}")
    obstore.put(bucket, "inbox/people/of today.csv", DATA)
    for _ in range(2):
        await events.take(records_of([notice(kind, f"{prefix}/inbox/people/of today.csv")])[0])
    assert [event.filename for event in watch.producer.events] == ["of today.csv"]
    assert keys(bucket, "inbox/") == []


async def _never(key: str) -> None:
    raise AssertionError(f"{key} is not to be taken")


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"null", b"{}", b'{"Records": 3}', b'{"Records": [{"eventName": 3}]}', b'{"detail": {}}', b"\xff"],
)
async def test_what_is_no_notice_is_for_the_dead_letters(value: bytes) -> None:
    with pytest.raises(Permanent, match="not a notice of S3"):
        await BucketEvents(_never, f"s3://{BUCKET}").take(records_of([value])[0])


@pytest.mark.parametrize(
    "value",
    [
        b'{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "drops"}',
        b'{"Records": [{"eventName": "s3:ObjectRemoved:Delete"}]}',
        notice("minio", "uploads/1/object"),
    ],
)
async def test_notices_of_other_things_are_passed_over(value: bytes) -> None:
    await BucketEvents(_never, f"s3://{BUCKET}").take(records_of([value])[0])


async def test_a_notice_of_another_bucket_is_refused() -> None:
    with pytest.raises(Permanent, match="bucket 'drops', this one is 'other'"):
        await BucketEvents(_never, "s3://other").take(records_of([notice("aws", "inbox/people/a.csv")])[0])


async def test_a_notice_of_a_name_that_cannot_be_used_is_for_the_dead_letters(s3: S3) -> None:
    with pytest.raises(Permanent, match="the name cannot be used"):
        await Watch(s3.store("hostile")).inbox.take("inbox/people/\x1b[31m.csv")


async def test_a_bucket_that_is_away_is_transient() -> None:
    with pytest.raises(Transient):
        await Watch(S3("http://127.0.0.1:9").store()).inbox.take("inbox/people/a.csv")
