"""POST /v1/query: hold, query, charge, answer. `run_query` is the whole story, in this order."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from common.errors import ClientError, Forbidden
from common.faultpoints import faultpoint
from common.ids import new_id
from common.json_body import JsonBody
from gateway.api_keys import caller_with
from gateway.audit_trail import trail_of
from gateway.client_leaves import unless_client_leaves
from gateway.query_answer import JSON, Run, captured, json_answer, released
from gateway.query_cursor import next_cursor, position_of
from gateway.query_export import export
from gateway.query_formats import FORMS, completed
from gateway.query_hold import held
from gateway.query_packing import packed_response
from gateway.query_plan import QueryPlan, Terms, plan_query
from gateway.query_repeat import earlier_answer, idempotency_key
from gateway.query_request import QueryRequest
from gateway.query_versions import Freshness
from gateway.query_wait import wait_for_upload
from gateway.quotes import expiry, honoured, quoted
from gateway.roles import Caller, datasets_of, may_query
from gateway.settings import Settings
from gateway.wiring import Gateway, gateway_of

# From the end of a query to its capture: the spool sends within 100 ms, unless credits are away for a moment.
_SETTLING_S = 30
router = APIRouter(tags=["query"])
_may_query, _body = caller_with("query"), JsonBody(QueryRequest, remembered=True)
Asking = Annotated[Caller, Depends(_may_query)]
Asked = Annotated[QueryRequest, Depends(_body)]
_CONTENT: dict[str, Any] = {form.media_type.partition(";")[0]: {} for form in FORMS.values()}
_HEADERS: dict[str, Any] = {
    "X-Query-Id": {
        "description": "of a stream: its receipt is GET /v1/queries/{query_id}",
        "schema": {"type": "string"},
    },
    "X-Total-Records": {"description": "of a stream, when count is exact", "schema": {"type": "integer"}},
    "X-Credits-Reserved": {"description": "of a stream: the most it can cost", "schema": {"type": "number"}},
}
_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "a repeat within 24 hours is not charged again and gets the same answer",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    },
    {
        "name": "X-Wait-For-Upload",
        "in": "header",
        "description": "answer when this upload is visible; wait_ms of the body says how long to wait",
        "schema": {"type": "string", "format": "uuid"},
    },
]


@router.post(
    "/v1/query",
    response_class=Response,
    responses={200: {"content": _CONTENT, "headers": _HEADERS}},
    openapi_extra={"parameters": _PARAMETERS},
)
async def post_query(request: Request, caller: Asking, ask: Asked) -> Response:
    """Rows of a dataset. Costs credits: held before, charged after, nothing when it fails."""
    await wait_for_upload(request, caller, ask.wait_ms)
    return await run_query(completed(ask, request.headers.get("accept", "")), caller, request)


async def answer_query(request: Request) -> Response:
    """`post_query` without the framework: what its signature declares, in the same order (gateway/hot_routes.py)."""
    return await post_query(request, await _may_query(request), await _body(request))


async def run_query(ask: QueryRequest, caller: Caller, request: Request) -> Response:
    gateway, trail = gateway_of(request), trail_of(request)
    fresh = await gateway.versions.of(ask.dataset)
    plan = planned(ask, caller, request, fresh)
    trail.dataset = plan.dataset
    run = Run(new_id(), plan, caller, time.perf_counter(), gateway.clock.now())
    key = idempotency_key(request, ask)
    if plan.form.streamed:
        return await export(run, key, request)
    kept = await gateway.pages.kept(plan, fresh)
    if kept is not None:
        # What it costs is known, so no more is held.
        run = run.answered_by(kept.page, kept.as_of)
    hold = await held(run, key, run.plan.price_cap, _hold_s(gateway.settings), gateway, trail)
    if hold.hold_id != run.query_id:
        return await earlier_answer(hold, caller, key, gateway.credits, request)
    # Dying between here and the trail's record is safe: the hold expires and the caller has paid nothing.
    faultpoint("gateway.reserved")
    try:
        page = kept.page if kept else await unless_client_leaves(request, gateway.pages.fetch(run, fresh))
    except BaseException as exc:
        trail.settlement = released(run, exc.code if isinstance(exc, ClientError) else type(exc).__name__)
        raise
    faultpoint("gateway.queried")
    used = run.plan.price(page.rows, page.rows_read, cached=run.cached)
    left = (hold.available_mc or 0) + run.plan.price_cap - used
    body = json_answer(run, page, used_mc=used, left_mc=left, cursor=next_cursor(ask, plan, page, gateway.seals))
    trail.rows = page.rows
    trail.settlement = captured(run, page.rows, page.rows_read, used_mc=used, kept=body if key else None)
    faultpoint("gateway.captured")
    return packed_response(body, request)


@router.post("/v1/query/quote", response_class=Response, responses={200: {"content": {JSON: {}}}})
async def post_quote(request: Request, caller: Asking, ask: Asked) -> Response:
    """What the same body would cost at /v1/query, which with the `quote_id` costs no more than `credits_max`. Free."""
    gateway = gateway_of(request)
    ask = completed(ask, request.headers.get("accept", ""))
    plan = planned(ask, caller, request, await gateway.versions.of(ask.dataset))
    trail_of(request).dataset = plan.dataset
    rows_read = await unless_client_leaves(request, gateway.warehouse.estimate(plan))
    until = expiry(gateway.clock.now(), gateway.settings.quote_ttl_s)
    return Response(
        orjson.dumps(quoted(ask, plan, caller, rows_read, until, gateway.seals), option=orjson.OPT_UTC_Z),
        media_type=JSON,
    )


def planned(ask: QueryRequest, caller: Caller, request: Request, fresh: Freshness) -> QueryPlan:
    """Raises Forbidden for a dataset that is not granted, and what plan_query raises."""
    gateway = gateway_of(request)
    dataset = gateway.datasets.get(ask.dataset)
    if dataset is not None and not may_query(caller, dataset):
        raise Forbidden("You may not query this dataset", details={"dataset": dataset.name})
    pii = "pii" in caller.scopes
    if ask.cursor is not None or ask.quote_id is not None:  # whose meaning depends on the moment
        return _planned(ask, caller, gateway, fresh, pii=pii)
    # Without them a plan is the same for everybody who may see the same.
    return ask.once((gateway.datasets, pii, fresh.excluded), lambda: _planned(ask, caller, gateway, fresh, pii=pii))


def _planned(ask: QueryRequest, caller: Caller, gateway: Gateway, fresh: Freshness, *, pii: bool) -> QueryPlan:
    settings = gateway.settings
    quote = honoured(ask, caller, gateway.clock.now(), gateway.seals)
    terms = Terms(
        timeout_s=settings.query_timeout_s,
        stream_timeout_s=settings.stream_timeout_s,
        rows_read_max=settings.query_rows_read_max,
        pii=pii,
        excluded=fresh.excluded,
        form=FORMS[ask.format or "json"],
        position=position_of(ask, gateway.seals),
        prices=quote.prices if quote else None,
        ceiling=quote.ceiling if quote else None,
    )
    return plan_query(ask, datasets_of(caller, gateway.datasets), terms)


def _hold_s(settings: Settings) -> int:
    """A hold that ends before its query would make the query free."""
    return max(settings.hold_ttl_s, math.ceil(settings.query_timeout_s + settings.scan_wait_s) + _SETTLING_S)
