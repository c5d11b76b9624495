"""Calls of the credits service as bytes: what is accepted, what is refused, and how outcomes are answered."""

import base64
import hashlib
from typing import Any, get_args

import orjson
import pytest

from common.credit_operations import OutcomeCode, Outcomes
from common.errors import ClientError, InvalidRequest, Unavailable
from common.ids import new_id
from credits.operations import OPERATIONS, batch_answer, row_of, rows_of_batch, single_answer

HOLD, USER = new_id(), new_id()
DIGEST = hashlib.sha256(b"request").hexdigest()
RECEIPT = {"query_id": HOLD, "dataset": "people", "state": "captured", "price_version": "x", "duration_ms": 1.5}
RESERVE: dict[str, Any] = {"user_id": USER, "hold_id": HOLD, "amount_mc": 5, "ttl_s": 60, "digest": DIGEST}
CAPTURE: dict[str, Any] = {"hold_id": HOLD, "amount_mc": 5, "receipt": RECEIPT}


def encoded(document: object) -> bytes:
    return orjson.dumps(document, default=str)


def batch(*operations: dict[str, Any]) -> bytes:
    return encoded({"operations": operations})


def test_every_operation_has_a_route_of_its_own() -> None:
    assert set(OPERATIONS) == {
        "open_account", "reserve", "extend", "capture", "release", "grant", "set_balance", "refund"
    }  # fmt: skip


def test_a_batch_becomes_rows_in_order() -> None:
    rows = rows_of_batch(batch({"op": "reserve", **RESERVE}, {"op": "capture", **CAPTURE}))
    assert [row.op for row in rows] == ["reserve", "capture"]
    assert (rows[0].user_id, rows[0].digest) == (USER, bytes.fromhex(DIGEST))
    assert (rows[1].query_id, rows[1].amount) == (HOLD, 5)


def test_the_digest_of_a_grant_covers_everything_but_its_key() -> None:
    def digest(**change: Any) -> bytes | None:
        asked = {"user_id": USER, "amount_mc": 5, "actor": "me", "reason": "", "key": "k", **change}
        return row_of(OPERATIONS["grant"], encoded(asked)).digest

    assert digest() == digest(key="another")
    assert len({digest(), digest(amount_mc=6), digest(actor="you"), digest(reason="because")}) == 4


def test_an_answer_is_kept_up_to_one_mebibyte() -> None:
    def kept(size: int) -> bytes | None:
        answer = {"status": 200, "headers": {"a": "b"}, "body_base64": base64.b64encode(b"x" * size).decode()}
        return row_of(OPERATIONS["capture"], encoded({**CAPTURE, "answer": answer})).body

    assert kept(1 << 20) == b"x" * (1 << 20)
    assert kept((1 << 20) + 1) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"{", b'{"operations": []}', b'{"operations": [{"op": "steal"}]}',
        batch({"op": "reserve", **RESERVE, "amount_mc": -1}),
        batch({"op": "reserve", **RESERVE, "amount_mc": 10**15 + 1}),
        batch({"op": "reserve", **RESERVE, "amount_mc": 1.0005}),
        batch({"op": "reserve", **RESERVE, "amount_mc": True}),
        batch({"op": "reserve", **RESERVE, "amount_mc": "5"}),
        batch({"op": "reserve", **RESERVE, "ttl_s": 3601}),
        batch({"op": "reserve", **RESERVE, "digest": DIGEST.upper()}),
        batch({"op": "reserve", **RESERVE, "key": "a\x00b"}),
        batch({"op": "reserve", **RESERVE, "role": "admin"}),
        batch({"op": "capture", **CAPTURE, "answer": {"status": 200, "headers": {}, "body_base64": "?"}}),
        batch({"op": "capture", **CAPTURE}).replace(b"1.5", b"NaN"),
        batch({"op": "capture", **CAPTURE}).replace(b"1.5", b"1e400"),
        batch({"op": "reserve", **RESERVE, "key": "@"}).replace(b"@", b"\xff"),
        batch({"op": "reserve", **RESERVE, "key": "@"}).replace(b"@", b"\\ud800"),
        batch(*[{"op": "reserve", **RESERVE}] * 513),
    ],
)  # fmt: skip
def test_what_no_caller_may_send_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        rows_of_batch(raw)


def test_a_batch_is_answered_as_the_shared_model_reads_it() -> None:
    raw = batch_answer([{"ok": True, "hold_id": str(HOLD), "state": "open", "available_mc": 3}, ValueError()])
    opened, failed = Outcomes.model_validate_json(raw).outcomes
    assert (opened.ok, opened.hold_id, opened.available_mc) == (True, HOLD, 3)
    assert (failed.ok, failed.code) == (False, "internal")


def test_one_unknown_outcome_makes_the_whole_call_one_to_repeat() -> None:
    with pytest.raises(Unavailable):
        batch_answer([{"ok": True}, Unavailable()])


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("insufficient_credits", 402), ("idempotency_mismatch", 422), ("hold_closed", 409),
        ("capture_exceeds_hold", 422), ("amount_out_of_range", 422), ("refund_exceeds_capture", 422),
        ("unknown_user", 404), ("unknown_hold", 404), ("unknown_entry", 404),
    ],
)  # fmt: skip
def test_a_refused_operation_is_an_error_with_its_own_code(code: str, status: int) -> None:
    with pytest.raises(ClientError) as refused:
        single_answer({"ok": False, "code": code, "available_mc": 2})
    assert (refused.value.code, refused.value.status) == (code, status)
    assert refused.value.details == {"available_mc": 2}


def test_every_code_of_an_outcome_can_be_answered() -> None:
    for code in get_args(OutcomeCode):
        with pytest.raises(ClientError):
            single_answer({"ok": False, "code": code})
