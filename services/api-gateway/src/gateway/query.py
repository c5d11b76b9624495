"""POST /v1/query: hold, query, charge, answer. `run_query` is the whole story, in this order."""

from __future__ import annotations

import math
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from common.credit_operations import Outcome
from common.errors import BadHeader, ClientError, IdempotencyMismatch, InsufficientCredits
from common.faultpoints import faultpoint
from common.ids import new_id
from common.json_body import json_body
from gateway.api_keys import caller_with
from gateway.audit_trail import Trail, trail_of
from gateway.client_leaves import unless_client_leaves
from gateway.query_answer import JSON, Run, captured, json_answer, released
from gateway.query_plan import plan_query
from gateway.query_repeat import IdempotencyKey, earlier_answer, idempotency_key
from gateway.query_request import QueryRequest
from gateway.roles import Caller
from gateway.settings import Settings
from gateway.wiring import Gateway, gateway_of

# From the end of a query to its capture: the spool sends within 100 ms, unless credits are away for a moment.
_SETTLING_S = 30
NO_DIGEST = "0" * 64
router = APIRouter(tags=["query"])


@router.post("/v1/query", response_class=Response, responses={200: {"content": {JSON: {}}}})
async def post_query(
    request: Request,
    caller: Annotated[Caller, Depends(caller_with("query"))],
    ask: Annotated[QueryRequest, json_body(QueryRequest)],
) -> Response:
    """Rows of a dataset. Costs credits: held before, charged after, nothing when it fails."""
    _refuse_what_is_not_here_yet(request)
    return await run_query(ask, idempotency_key(request, ask), caller, request)


async def run_query(ask: QueryRequest, key: IdempotencyKey | None, caller: Caller, request: Request) -> Response:
    gateway, trail = gateway_of(request), trail_of(request)
    started, as_of = time.perf_counter(), gateway.clock.now()
    plan = plan_query(ask, gateway.datasets, timeout_s=gateway.settings.query_timeout_s)
    trail.dataset = plan.dataset
    run = Run(new_id(), plan, caller, started, as_of)
    hold = await _reserve(run, key, gateway, trail)
    if hold.hold_id != run.query_id:
        return await earlier_answer(hold, caller, key, gateway.credits)
    # Dying between here and the trail's record is safe: the hold expires and the caller has paid nothing.
    faultpoint("gateway.reserved")
    try:
        page = await unless_client_leaves(request, gateway.warehouse.fetch(plan, run.query_id))
    except BaseException as exc:
        trail.settlement = released(run, exc.code if isinstance(exc, ClientError) else type(exc).__name__)
        raise
    faultpoint("gateway.queried")
    used = plan.price(page.rows, page.rows_read)
    body = json_answer(run, page, used_mc=used, left_mc=(hold.available_mc or 0) + plan.price_cap - used)
    trail.rows = page.rows
    trail.settlement = captured(run, page, used_mc=used, kept=body if key else None)
    faultpoint("gateway.captured")
    return Response(body, media_type=JSON)


async def _reserve(run: Run, key: IdempotencyKey | None, gateway: Gateway, trail: Trail) -> Outcome:
    """The charge that gates the query. The hold of another id belongs to an earlier request with the same key."""
    trail.hold = run.query_id  # before asking: an outcome that never arrives may have opened it
    user_id, cap, ttl_s = run.caller.user_id, run.plan.price_cap, _hold_s(gateway.settings)
    # Without the header there is no key either: the hold's own id tells a retry, and costs the ledger a row less.
    name, digest = (key.value, key.digest) if key else (None, NO_DIGEST)
    try:
        outcome = await gateway.credits.reserve(user_id, run.query_id, cap, ttl_s, name, digest)
    except (InsufficientCredits, IdempotencyMismatch):
        trail.hold = None
        raise
    if outcome.hold_id != run.query_id:
        trail.hold = None
    return outcome


def _hold_s(settings: Settings) -> int:
    """A hold that ends before its query would make the query free."""
    return max(settings.hold_ttl_s, math.ceil(settings.query_timeout_s) + _SETTLING_S)


def _refuse_what_is_not_here_yet(request: Request) -> None:
    if "x-wait-for-upload" in request.headers:
        raise BadHeader("X-Wait-For-Upload is not supported yet")
