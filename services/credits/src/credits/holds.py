"""Holds: money set aside for a query, then captured, given back, or run out."""

import binascii
from base64 import b64decode
from typing import Any

import orjson

from common.credit_operations import Capture, Extend, Receipt, Release, Reserve, StoredAnswer
from common.errors import InvalidRequest
from credits.ledger import Row

ANSWER_BYTES_MAX = 1 << 20


def reserve(ask: Reserve) -> Row:
    return Row(
        op="reserve",
        user_id=ask.user_id,
        hold_id=ask.hold_id,
        amount=ask.amount_mc,
        ttl_s=ask.ttl_s,
        key=ask.key,
        digest=bytes.fromhex(ask.digest),
    )


def extend(ask: Extend) -> Row:
    return Row(op="extend", user_id=ask.user_id, hold_id=ask.hold_id, ttl_s=ask.ttl_s)


def capture(ask: Capture) -> Row:
    return Row(
        op="capture",
        user_id=ask.user_id,
        hold_id=ask.hold_id,
        amount=ask.amount_mc,
        **_receipt(ask.receipt),
        **(_kept(ask.answer) if ask.answer else {}),
    )


def _kept(answer: StoredAnswer) -> dict[str, Any]:
    """An answer too large to keep is left out: its repeat is told that it was delivered, and gets the receipt."""
    try:
        body = b64decode(answer.body_base64, validate=True)
    except binascii.Error as exc:
        raise InvalidRequest(details=[{"path": "answer.body_base64", "error": str(exc)}]) from None
    if len(body) > ANSWER_BYTES_MAX:
        return {}
    return {"status": answer.status, "headers": orjson.dumps(answer.headers).decode(), "body": body}


def release(ask: Release) -> Row:
    receipt = _receipt(ask.receipt) if ask.receipt else {}
    return Row(op="release", user_id=ask.user_id, hold_id=ask.hold_id, amount=0, reason=ask.reason, **receipt)


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "query_id": receipt.query_id,
        "dataset": receipt.dataset,
        "rows": receipt.rows,
        "price_version": receipt.price_version,
        "price": orjson.dumps(receipt.price).decode(),
        "duration_ms": receipt.duration_ms,
        "refund_reason": receipt.refund_reason,
    }
