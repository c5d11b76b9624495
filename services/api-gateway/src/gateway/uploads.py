"""A file becomes an object in the bucket and an event on Kafka; the worker does the rest.

The bucket is the truth: first the object, then its announcement beside it, then the event. What has its announcement is
loaded even if the event never arrives, because the worker's watch announces it again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import obstore
import orjson
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Query, Request, Response
from obstore.exceptions import BaseError

from common.bucket import announcement_key, object_key
from common.errors import InvalidRequest, Unavailable, UnsupportedFormat, UploadBusy
from common.events import UploadReceived
from common.faultpoints import faultpoint
from common.ids import new_id
from common.logs import get_logger
from common.topics import INGEST_UPLOADS
from gateway.api_keys import caller_with
from gateway.audit_trail import trail_of
from gateway.query_plan import dataset_named
from gateway.roles import ADMIN_READERS, Caller, require_may_load
from gateway.upload_body import Arriving, packed_name, shown_name
from gateway.upload_status import list_uploads, same_content, status_of
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
_log = get_logger(__name__)
Sender = Annotated[Caller, Depends(caller_with("ingest"))]
Looking = Annotated[Caller, Depends(caller_with("ingest", readers=ADMIN_READERS))]
FORMATS = ("csv", "json", "ndjson", "xml", "parquet")
# Held in memory per upload: this many parts of this size at most, whatever the file's size.
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2
_ACKNOWLEDGED_S = 10.0


_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/octet-stream": {"schema": _FILE},
        "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}}},
    },
}


@router.post("", status_code=202, openapi_extra={"requestBody": _BODY})
async def post_upload(
    request: Request,
    caller: Sender,
    *,
    dataset: Annotated[str, Query(max_length=63)],
    filename: Annotated[str | None, Query()] = None,
    format: Annotated[str | None, Query()] = None,  # noqa: A002 - the parameter's public name
    record: Annotated[
        str | None, Query(max_length=255, description="the XML element that is a record; found where it is absent")
    ] = None,
    replaces: Annotated[UUID | None, Query(description="the upload whose rejected rows this one corrects")] = None,
) -> Response:
    """Body: the file, or multipart/form-data with one field `file`. 202 when it is durable; loading follows."""
    gateway, trail = gateway_of(request), trail_of(request)
    require_may_load(caller, dataset_named(dataset, gateway.datasets))
    if format is not None and format not in FORMATS:
        raise UnsupportedFormat(f"format is one of {', '.join(FORMATS)}, or absent")
    if replaces is not None:
        await _replaceable(replaces, dataset, caller, gateway)
    trail.action, trail.dataset = "upload", dataset
    upload_id = new_id()
    trail.target = str(upload_id)
    arrived = await _store(upload_id, request, gateway)
    event = UploadReceived(
        upload_id=upload_id,
        dataset=dataset,
        object_key=object_key(upload_id),
        filename=shown_name(packed_name(filename or arrived.filename or "", request)),
        size=arrived.size,
        sha256=arrived.sha256,
        sender=caller.user_id,
        declared_format=format,
        record=record,
        received_at=gateway.clock.now(),
        replaces=replaces,
    )
    await _announce(event, gateway)
    return _json(await _accepted(event, gateway), status=202)


async def _replaceable(upload_id: UUID, dataset: str, caller: Caller, gateway: Gateway) -> None:
    """Raises NotFound for another's upload, UploadBusy while it loads, InvalidRequest for what has no rejects."""
    status = await status_of(upload_id, caller, gateway.postgres, gateway.bucket)
    fault = None
    if status["dataset"] != dataset:
        fault = f"an upload into {status['dataset']}, not {dataset}"
    elif status["duplicate_of"]:
        fault = f"a duplicate: its rows are those of {status['duplicate_of']}"
    if fault:
        raise InvalidRequest(details=[{"path": "replaces", "error": fault}])
    if status["state"] in {"received", "planning", "loading"}:
        raise UploadBusy


async def _store(upload_id: UUID, request: Request, gateway: Gateway) -> Arriving:
    """Stream the body to its object. Whatever goes wrong, no object remains."""
    arriving = Arriving(gateway.settings.upload_bytes_max, gateway.settings.upload_idle_s)
    try:
        await obstore.put_async(
            gateway.bucket,
            object_key(upload_id),
            arriving.pieces(request),
            chunk_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )
    except BaseException as exc:
        await _remove(object_key(upload_id), gateway)
        if isinstance(exc, BaseError | OSError):
            raise Unavailable("The bucket is not available, try again shortly") from exc
        raise
    faultpoint("gateway.upload_stored")
    return arriving


async def _announce(event: UploadReceived, gateway: Gateway) -> None:
    """Beside the object first, then on Kafka.

    Without Kafka the answer is 503 and the announced object stays: whether the event went out is not known, the watch
    announces it again, and sending the same file again loads nothing twice.
    """
    try:
        await obstore.put_async(gateway.bucket, announcement_key(event.upload_id), event.encoded())
    except (BaseError, OSError) as exc:
        await _remove(event.object_key, gateway)
        raise Unavailable("The bucket is not available, try again shortly") from exc
    faultpoint("gateway.upload_announced")
    try:
        async with asyncio.timeout(_ACKNOWLEDGED_S):
            await gateway.producer.send_and_wait(
                INGEST_UPLOADS.name, event.encoded(), key=str(event.upload_id).encode()
            )
    except (KafkaError, TimeoutError, OSError) as exc:
        _log.warning("upload is stored but not announced on kafka", upload_id=str(event.upload_id), fault=repr(exc))
        raise Unavailable(
            "The file is stored and will be loaded, but that could not be confirmed: follow it, or send it again",
            details={"upload_id": str(event.upload_id), "status_url": _status_url(event.upload_id)},
        ) from exc


async def _accepted(event: UploadReceived, gateway: Gateway) -> dict[str, Any]:
    return {
        "upload_id": event.upload_id,
        "state": "received",
        "sha256": event.sha256,
        "size": event.size,
        "status_url": _status_url(event.upload_id),
        "duplicate_of": await same_content(event, gateway.postgres),
    }


@router.get("")
async def get_uploads(
    request: Request,
    caller: Looking,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[UUID | None, Query()] = None,
) -> Response:
    """Your uploads, newest first."""
    found = await list_uploads(caller, gateway_of(request).postgres, before=cursor, limit=limit)
    answer = _json(found)
    if len(found) == limit:
        answer.headers["X-Next-Cursor"] = str(found[-1]["upload_id"])
    return answer


@router.get("/{upload_id}")
async def get_upload(request: Request, caller: Looking, upload_id: UUID) -> Response:
    gateway = gateway_of(request)
    return _json(await status_of(upload_id, caller, gateway.postgres, gateway.bucket))


async def _remove(key: str, gateway: Gateway) -> None:
    with suppress(BaseError, OSError):
        await obstore.delete_async(gateway.bucket, key)


def _status_url(upload_id: UUID) -> str:
    return f"/v1/uploads/{upload_id}"


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str), status, media_type="application/json")
