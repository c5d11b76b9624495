"""The streamed formats: a query whose rows leave as ClickHouse writes them, whatever their number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import Request, Response

from common import prices
from common.errors import ClientError, QueryTooExpensive
from common.faultpoints import faultpoint
from gateway.audit_trail import Trail, trail_of
from gateway.client_leaves import unless_client_leaves
from gateway.query_answer import Run, released
from gateway.query_hold import held
from gateway.query_pages import too_expensive
from gateway.query_repeat import IdempotencyKey, earlier_answer
from gateway.query_stream import Keeping, QueryStream
from gateway.warehouse import translated
from gateway.warehouse_http import Result
from gateway.wiring import Gateway, gateway_of

# Of the longest export, before ClickHouse's own deadline: who is to blame for the delay is then still known.
_BEFORE_CLICKHOUSE = 0.95


async def export(run: Run, key: IdempotencyKey | None, request: Request) -> Response:
    """An answer that has begun: what ClickHouse refuses is still an error of its own."""
    gateway, trail = gateway_of(request), trail_of(request)
    cap, ttl_s = run.plan.price_cap, gateway.settings.hold_ttl_s
    hold = await held(run, key, cap, ttl_s, gateway, trail)
    if hold.hold_id != run.query_id:
        return await earlier_answer(hold, run.caller, key, gateway.credits, request)
    ends_at = asyncio.get_running_loop().time() + gateway.settings.stream_timeout_s * _BEFORE_CLICKHOUSE
    faultpoint("gateway.reserved")
    keeping = Keeping(gateway.credits, run, ttl_s, ends_at)
    try:
        stream = await unless_client_leaves(request, _begun(run, keeping, request))
    except BaseException as exc:
        trail.settlement = released(run, exc.code if isinstance(exc, ClientError) else type(exc).__name__)
        raise
    stream.add_header("X-Query-Id", run.query_id)
    stream.add_header("X-Credits-Reserved", prices.credits(cap))
    return stream


async def _begun(run: Run, keeping: Keeping, request: Request) -> QueryStream:
    gateway, trail = gateway_of(request), trail_of(request)
    await _take_place(run, gateway, trail)
    if run.plan.counts_rows_read:
        run = replace(run, rows_read=await gateway.warehouse.estimate(run.plan))
    await _refuse_too_many_rows(run, gateway)
    total = await gateway.warehouse.count_of(run.plan, run.query_id) if run.plan.count_sql else None
    try:
        # The first bytes have the time of a page; the rest has that of a stream.
        with translated():
            async with asyncio.timeout(gateway.settings.query_timeout_s):
                result = await gateway.warehouse.open_result(run.plan, run.query_id)
                pieces, first = await _first(result)
    except QueryTooExpensive as exc:
        raise await too_expensive(run.plan, gateway.warehouse) from exc
    stream = QueryStream(request, run, trail, result, pieces, first, keeping)
    if total is not None:
        stream.add_header("X-Total-Records", total)
    return stream


async def _first(result: Result) -> tuple[AsyncIterator[bytes], bytes]:
    """Waits for the first bytes: until then an error is an answer, afterwards it can only cut the connection."""
    pieces = result.pieces()
    try:
        return pieces, await anext(pieces, b"")
    except BaseException:
        result.close()
        raise


async def _take_place(run: Run, gateway: Gateway, trail: Trail) -> None:
    """A stream is a scan until its last byte."""
    leave, others = await gateway.scans.enter(run.caller.user_id), trail.leave

    def both() -> None:
        leave()
        if others is not None:
            others()

    trail.leave = both


async def _refuse_too_many_rows(run: Run, gateway: Gateway) -> None:
    """Counted first where the cap pays for fewer rows than the limit: ClickHouse would only notice in mid-stream."""
    allowed = run.plan.settings.get("max_result_rows")
    if allowed is None:
        return
    rows = await gateway.warehouse.total(run.plan, allowed)
    if rows > allowed:
        raise QueryTooExpensive(
            details={
                "estimate": {"rows_returned": rows},
                "limit": {"rows_returned": allowed, "credits": prices.credits(run.plan.price_cap)},
            }
        )
