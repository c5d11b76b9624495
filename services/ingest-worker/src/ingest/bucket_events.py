"""Notices of new objects that S3 or MinIO publishes on ingest.bucket.v1: a drop is taken in without waiting for a look.

A notice says where to look and nothing else: what the object is, the bucket says. Lost ones are made up by the watch.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import orjson
from aiokafka import ConsumerRecord

from common.bucket import INBOX
from common.errors import Permanent

Take = Callable[[str], Awaitable[None]]


class BucketEvents:
    def __init__(self, take: Take, bucket_url: str) -> None:
        """`take` is given keys within the store that bucket_url names."""
        address = urlsplit(bucket_url)
        self._take = take
        self._bucket = address.netloc
        self._prefix = f"{address.path.strip('/')}/".lstrip("/")

    async def take(self, record: ConsumerRecord) -> None:
        """Raises Permanent for what is no notice of S3; Transient when the bucket is away."""
        for bucket, name in list(_created(record.value)):
            if bucket != self._bucket:
                raise Permanent(f"a notice of bucket {bucket[:64]!r}, this one is {self._bucket!r}")
            key = name.removeprefix(self._prefix)
            if name.startswith(self._prefix) and key.startswith(INBOX):
                await self._take(key)


def _created(value: bytes | None) -> Iterator[tuple[str, str]]:
    """Bucket and key of each new object: of S3 and MinIO (Records), or of EventBridge (detail, keys not encoded)."""
    try:
        notice = orjson.loads(value or b"")
        if "detail" in notice:
            if notice["detail-type"] == "Object Created":
                yield _text(notice["detail"]["bucket"]["name"]), _text(notice["detail"]["object"]["key"])
        elif notice.get("Event") != "s3:TestEvent":
            for one in notice["Records"]:
                if _text(one["eventName"]).removeprefix("s3:").startswith("ObjectCreated:"):
                    yield _text(one["s3"]["bucket"]["name"]), unquote_plus(_text(one["s3"]["object"]["key"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as exc:
        raise Permanent(f"not a notice of S3: {exc!r}"[:200]) from None


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError(f"expected text, found {type(found).__name__}")
    return found
