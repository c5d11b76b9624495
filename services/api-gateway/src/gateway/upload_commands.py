"""What may be done to an upload besides looking at it: undo, and replay of its rejected rows. The worker does it; the
gateway checks who asks for what, and hands the command over on Kafka.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.errors import InvalidRequest, NotFound, Unavailable, UploadBusy
from common.events import IngestCommand, ReplayRequested, UndoRequested
from common.json_body import json_body
from common.postgres import Pool
from common.topics import INGEST_COMMANDS
from gateway.api_keys import caller_with
from gateway.audit_trail import trail_of
from gateway.published_views import published
from gateway.roles import Caller
from gateway.upload_status import status_of
from gateway.wiring import Gateway, gateway_of

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
Sender = Annotated[Caller, Depends(caller_with("ingest"))]
_BUSY = frozenset({"received", "planning", "loading"})
_ACKNOWLEDGED_S = 10.0
_LOOK_S = 0.1


class ReplayOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dry_run: bool = Field(default=False, description="say how many would pass, and change nothing")
    wait_s: float = Field(10, ge=0, le=30, description="wait so long for the result before answering 202")


@router.delete("/{upload_id}", status_code=202)
async def delete_upload(request: Request, caller: Sender, upload_id: UUID) -> Response:
    """Undo: the dataset becomes as if this upload had never been loaded. 202 when that is certain to happen."""
    gateway, trail = gateway_of(request), trail_of(request)
    status = await _own(upload_id, caller, gateway)
    trail.action, trail.target, trail.dataset = "undo", str(upload_id), status["dataset"]
    if status["state"] == "undone":
        return _json(status, 200)
    if status["state"] != "undoing":
        await send_command(UndoRequested(upload_id=upload_id, requested_by=caller.user_id), str(upload_id), gateway)
    return _json(status | {"state": "undoing", "finished_at": None}, 202)


@router.post("/{upload_id}/replay")
async def post_replay(
    request: Request,
    caller: Sender,
    upload_id: UUID,
    options: Annotated[ReplayOptions, json_body(ReplayOptions, optional=True)],
) -> Response:
    """Read the rejected rows again, by the dataset's declaration as it is now; an undone upload is loaded again.

    200 with the result, or 202 with where it will be.
    """
    gateway, trail = gateway_of(request), trail_of(request)
    status = await _own(upload_id, caller, gateway)
    if status["state"] == "undoing":
        raise UploadBusy("This upload is being undone")
    trail.action, trail.target, trail.dataset = "replay", str(upload_id), status["dataset"]
    command = ReplayRequested(upload_id=upload_id, dry_run=options.dry_run, requested_by=caller.user_id)
    await send_command(command, str(upload_id), gateway)
    document = await waited_for(command.event_id, gateway, options.wait_s)
    place = f"/v1/uploads/{upload_id}/replays/{command.event_id}"
    if document is None:
        waiting = {"replay_id": command.event_id, "state": "waiting", "status_url": place}
        return _json(waiting, 202)
    return _json(_replay(document) | {"status_url": place})


@router.get("/{upload_id}/replays/{replay_id}")
async def get_replay(request: Request, caller: Sender, upload_id: UUID, replay_id: UUID) -> Response:
    """What came of a replay."""
    gateway = gateway_of(request)
    await status_of(upload_id, caller, gateway.postgres, gateway.bucket)
    job = await job_of(replay_id, gateway.postgres)
    if job is None or job["upload_id"] != upload_id:
        raise NotFound
    return _json(_replay(job))


async def _own(upload_id: UUID, caller: Caller, gateway: Gateway) -> dict[str, Any]:
    """Raises UploadBusy while it is being loaded, InvalidRequest for what loaded nothing of its own."""
    status = await status_of(upload_id, caller, gateway.postgres, gateway.bucket)
    if status["duplicate_of"]:
        first = status["duplicate_of"]
        raise InvalidRequest(details=[{"path": "upload_id", "error": f"a duplicate: its rows are those of {first}"}])
    if status["state"] in _BUSY:
        raise UploadBusy
    return status


async def send_command(command: IngestCommand, key: str, gateway: Gateway) -> None:
    """Raises Unavailable; then nobody knows whether it will be done, and asking again does no harm."""
    try:
        async with asyncio.timeout(_ACKNOWLEDGED_S):
            await gateway.producer.send_and_wait(INGEST_COMMANDS.name, command.encoded(), key=key.encode())
    except (KafkaError, TimeoutError, OSError) as exc:
        raise Unavailable("The request could not be handed over, try again shortly") from exc


async def waited_for(job_id: UUID, gateway: Gateway, wait_s: float) -> dict[str, Any] | None:
    """The job once it has ended; None when it has not within this time."""
    clock = gateway.clock
    until = clock.monotonic() + wait_s
    while True:
        job = await job_of(job_id, gateway.postgres)
        if job is not None and job["finished_at"] is not None:
            return job
        if clock.monotonic() >= until:
            return None
        await asyncio.sleep(_LOOK_S)


_JOB = "SELECT * FROM ingest.job_status WHERE job_id = $1"


async def job_of(job_id: UUID, postgres: Pool) -> dict[str, Any] | None:
    async with published("The state of jobs"):
        row = await postgres.fetchrow(_JOB, job_id)
    return dict(row) if row is not None else None


def _replay(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "replay_id": job["job_id"],
        "upload_id": job["upload_id"],
        "state": job["state"],
        "error": job["error"],
        **(job["result"] or {}),
    }


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str), status, media_type="application/json")
