"""X-Wait-For-Upload: a query that sees an upload, or says that it does not yet."""

from __future__ import annotations

import asyncio
from uuid import UUID

from fastapi import Request

from common.errors import BadHeader, InvalidRequest, UploadBusy
from gateway.client_leaves import unless_client_leaves
from gateway.roles import Caller
from gateway.upload_status import status_of
from gateway.wiring import Gateway, gateway_of

_HEADER = "x-wait-for-upload"
_LOOK_FIRST_S, _LOOK_MAX_S = 0.05, 0.5
_VISIBLE = frozenset({"completed", "completed_with_rejects"})


async def wait_for_upload(request: Request, caller: Caller, wait_ms: int | None) -> None:
    """Returns when the upload's rows are visible. Before anything is held: waiting costs nothing.

    Raises BadHeader, NotFound (another user's looks the same), InvalidRequest for an upload that ended without rows,
    UploadBusy when it is not there in time.
    """
    sent = request.headers.getlist(_HEADER)
    if not sent:
        return
    try:
        upload_id = UUID(sent[0]) if len(sent) == 1 else None
    except ValueError:
        upload_id = None
    if upload_id is None:
        raise BadHeader("X-Wait-For-Upload must be the id of one upload")
    gateway = gateway_of(request)
    longest_s = gateway.settings.query_wait_max_s
    wait_s = longest_s if wait_ms is None else min(wait_ms / 1000, longest_s)
    await unless_client_leaves(request, _visible(upload_id, caller, gateway, wait_s))
    # What this process knows of the dataset may be older than the load's end.
    await gateway.versions.refresh_now()


async def _visible(upload_id: UUID, caller: Caller, gateway: Gateway, wait_s: float) -> None:
    until = gateway.clock.monotonic() + wait_s
    pause_s = _LOOK_FIRST_S
    while True:
        status = await status_of(upload_id, caller, gateway.postgres, gateway.bucket)
        if status["state"] in _VISIBLE:
            return
        if status["finished_at"] is not None:
            error = f"this upload is {status['state']}: its rows will not be visible"
            raise InvalidRequest(details=[{"path": f"header.{_HEADER}", "error": error}])
        left = until - gateway.clock.monotonic()
        if left <= 0:
            details = {"upload_id": str(upload_id), "state": status["state"], "eta_seconds": status["eta_seconds"]}
            raise UploadBusy(details=details, retry_after_s=1)
        await asyncio.sleep(min(pause_s, left))
        pause_s = min(2 * pause_s, _LOOK_MAX_S)
