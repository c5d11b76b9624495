"""Idempotency-Key: a query that is asked again runs once, is charged once, and gets the same bytes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from fastapi import Request, Response

from common.credit_operations import Outcome
from common.errors import AlreadyDelivered, BadHeader, IdempotencyInProgress
from gateway.credits_client import CreditsClient
from gateway.query_cursor import digest_of
from gateway.query_packing import packed_response
from gateway.query_receipts import public_receipt
from gateway.query_request import QueryRequest
from gateway.roles import Caller

_KEY_CHARS_MAX = 255
_FREE = frozenset({"wait_ms"})  # how long to wait for it makes no other query


@dataclass(frozen=True)
class IdempotencyKey:
    value: str
    digest: str  # of what was asked; the same key with another digest is refused


def idempotency_key(request: Request, ask: QueryRequest) -> IdempotencyKey | None:
    """The header's key; raises BadHeader unless it is one of 1 to 255 visible ASCII characters."""
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    value = sent[0]
    if len(sent) > 1 or not 0 < len(value) <= _KEY_CHARS_MAX or not all("!" <= char <= "~" for char in value):
        raise BadHeader(f"Idempotency-Key must be one value of 1 to {_KEY_CHARS_MAX} visible ASCII characters")
    asked = digest_of(ask, _FREE)
    return IdempotencyKey(value, hashlib.sha256(f"POST /v1/query {asked}".encode()).hexdigest())


async def earlier_answer(
    hold: Outcome, caller: Caller, key: IdempotencyKey | None, ledger: CreditsClient, request: Request
) -> Response:
    """What the request that opened this hold was answered.

    Raises IdempotencyInProgress while it runs, AlreadyDelivered with the receipt when the answer was not kept.
    """
    if key is None or hold.state != "captured":
        raise IdempotencyInProgress
    found, _ = await ledger.read("/v1/answers", {"user_id": str(caller.user_id), "key": key.value})
    kept = found["answer"]
    if kept is None:
        raise AlreadyDelivered(details=public_receipt(found["receipt"]))
    return packed_response(base64.b64decode(kept["body_base64"]), request, kept["status"])
