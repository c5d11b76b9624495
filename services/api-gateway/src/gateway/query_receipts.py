"""GET /v1/queries/{query_id}: what a query cost and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Response

from common.prices import credits as in_credits
from gateway.api_keys import caller_with
from gateway.roles import Caller
from gateway.wiring import gateway_of

router = APIRouter(tags=["query"])


@router.get("/v1/queries/{query_id}")
async def get_receipt(
    request: Request, caller: Annotated[Caller, Depends(caller_with("query"))], query_id: UUID
) -> Response:
    """The receipt of one of your queries, for 30 days. It follows its answer within a second."""
    found, _ = await gateway_of(request).credits.read(f"/v1/receipts/{query_id}", {"user_id": str(caller.user_id)})
    return Response(orjson.dumps(public_receipt(found)), media_type="application/json")


def public_receipt(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt of the credits service as clients see it: amounts in credits."""
    return {
        "query_id": receipt["query_id"],
        "dataset": receipt["dataset"],
        "state": receipt["state"],
        "rows": receipt["rows"],
        "credits_held": in_credits(receipt["credits_held_mc"]),
        "credits_used": in_credits(receipt["credits_used_mc"]),
        "duration_ms": receipt["duration_ms"],
        "price_version": receipt["price_version"],
        "refund_reason": receipt["refund_reason"],
        "created_at": receipt["created_at"],
    }
