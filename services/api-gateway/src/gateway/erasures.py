"""Erasure of one person from a dataset: the admin says which value of which identity, the worker does it, and the log
keeps who asked for it, and a hash.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.datasets import Dataset
from common.errors import InvalidRequest, NotFound
from common.events import EraseRequested
from common.json_body import json_body
from common.normalise import normalise_value
from gateway.api_keys import caller_with
from gateway.audit_trail import trail_of
from gateway.query_plan import dataset_named
from gateway.roles import ADMINS, Caller
from gateway.upload_commands import job_of, send_command, waited_for
from gateway.wiring import gateway_of

router = APIRouter(prefix="/v1/admin/erasures", tags=["admin"])
Admin = Annotated[Caller, Depends(caller_with("admin", roles=ADMINS))]
_TEXT = frozenset({"string", "country", "enum"})


class Erasure(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dataset: str = Field(max_length=63)
    column: str = Field(max_length=63, description="one that identifies a person by itself")
    value: str = Field(min_length=1, max_length=1000, description="in any notation that the column takes")
    wait_s: float = Field(10, ge=0, le=30, description="wait so long for the result before answering 202")


@router.post("")
async def post_erasure(request: Request, caller: Admin, ask: Annotated[Erasure, json_body(Erasure)]) -> Response:
    """Remove one person: rows, earlier versions, quarantine, caches, and whatever a replay would bring back."""
    gateway, trail = gateway_of(request), trail_of(request)
    dataset = dataset_named(ask.dataset, gateway.datasets)
    value = _stored(ask, dataset)
    trail.action, trail.dataset, trail.target = "erase", dataset.name, _logged(dataset, ask.column, value)
    command = EraseRequested(dataset=dataset.name, column=ask.column, value=value, requested_by=caller.user_id)
    await send_command(command, trail.target, gateway)
    job = await waited_for(command.event_id, gateway, ask.wait_s)
    place = {"status_url": f"/v1/admin/erasures/{command.event_id}"}
    if job is None:
        return _json({"erasure_id": command.event_id, "state": "waiting"} | place, 202)
    return _json(_document(job) | place)


@router.get("/{erasure_id}")
async def get_erasure(request: Request, caller: Admin, erasure_id: UUID) -> Response:
    """What came of an erasure."""
    del caller
    job = await job_of(erasure_id, gateway_of(request).postgres)
    if job is None or job["kind"] != "erase":
        raise NotFound
    return _json(_document(job))


def _logged(dataset: Dataset, column: str, value: str) -> str:
    """The worker's hash: the log tells of an erasure without telling of whom. In two halves, since the log hides what
    looks like a key's hash.
    """
    digest = hashlib.sha256(f"{dataset.name}:{column}:{value}".encode()).hexdigest()
    half = len(digest) // 2
    return f"sha256-{digest[:half]}-{digest[half:]}"


def _stored(ask: Erasure, dataset: Dataset) -> str:
    """The value as the column stores it. Raises InvalidRequest, which never repeats the value."""
    alone = [
        names[0] for names in dataset.identity if len(names) == 1 and dataset.columns[names[0]].parsed.kind in _TEXT
    ]
    if ask.column not in alone:
        raise InvalidRequest(details=[{"path": "column", "error": f"one of: {', '.join(alone) or 'none'}"}])
    value = normalise_value(dataset.columns[ask.column], ask.value, region=dataset.default_region)
    if not value:
        raise InvalidRequest(details=[{"path": "value", "error": f"no value that {ask.column} can hold"}])
    return value


def _document(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "erasure_id": job["job_id"],
        "dataset": job["dataset"],
        "state": job["state"],
        "error": job["error"],
        **(job["result"] or {}),
    }


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document, option=orjson.OPT_UTC_Z, default=str), status, media_type="application/json")
