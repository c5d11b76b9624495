"""From the bytes of a call to rows of the ledger, and from outcomes back to bytes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, get_args

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError

from common.credit_operations import (
    Batch,
    Capture,
    Extend,
    Grant,
    OpenAccount,
    Operation,
    OutcomeCode,
    Refund,
    Release,
    Reserve,
    SetBalance,
)
from common.errors import ClientError, InvalidRequest, Unavailable
from common.http import invalid_request
from credits import grants, holds
from credits.ledger import Outcome, Row

_ROW_OF: Mapping[type[BaseModel], Callable[[Any], Row]] = {
    OpenAccount: grants.open_account,
    Reserve: holds.reserve,
    Extend: holds.extend,
    Capture: holds.capture,
    Release: holds.release,
    Grant: grants.grant,
    SetBalance: grants.set_balance,
    Refund: grants.refund,
}
OPERATIONS: Mapping[str, type[BaseModel]] = {model.model_fields["op"].default: model for model in _ROW_OF}
_BATCH = TypeAdapter(Batch)


def rows_of_batch(raw: bytes) -> list[Row]:
    return rows_of(asked(raw))


def asked(raw: bytes) -> Sequence[Operation]:
    """Raises InvalidRequest for the whole call when one operation is malformed: the caller has a fault, not a user."""
    operations: Sequence[Operation] = _parsed(_BATCH.validate_json, raw).operations
    return operations


def rows_of(operations: Sequence[Operation]) -> list[Row]:
    return [_ROW_OF[type(ask)](ask) for ask in operations]


def traces_of(operations: Sequence[Operation]) -> Iterator[tuple[str, str | None]]:
    return ((f"credits {ask.op}", ask.traceparent) for ask in operations)


def row_of(model: type[BaseModel], raw: bytes) -> Row:
    return _ROW_OF[model](_parsed(model.model_validate_json, raw))


def _parsed(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    if b"\\u0000" in raw:
        raise InvalidRequest("U+0000 is not allowed in text")  # Postgres has no way to store it
    try:
        return parse(raw)
    except ValidationError as exc:
        raise invalid_request(list(exc.errors(include_url=False, include_input=False, include_context=False))) from None


def batch_answer(outcomes: list[Outcome | Exception]) -> bytes:
    """Raises Unavailable when any outcome is unknown: asking again, each by its own key, finds out."""
    for outcome in outcomes:
        if isinstance(outcome, Unavailable):
            raise outcome
    return orjson.dumps({"outcomes": [_FAILED if isinstance(one, Exception) else one for one in outcomes]})


_FAILED: Outcome = {"ok": False, "code": "internal"}


def single_answer(outcome: Outcome | Exception) -> bytes:
    """The outcome of one operation, or its refusal as an error with the status that fits."""
    if isinstance(outcome, Exception):
        raise outcome
    if outcome["ok"]:
        return orjson.dumps(outcome)
    details = {name: value for name, value in outcome.items() if name not in {"ok", "code"}}
    raise _REFUSALS[outcome["code"]](details=details)


class Refused(ClientError):
    """The ledger refused this operation; nothing changed."""

    status: ClassVar[int] = 422


_STATUS: Mapping[str, int] = {
    "insufficient_credits": 402,
    "hold_closed": 409,
    "unknown_user": 404,
    "unknown_hold": 404,
    "unknown_entry": 404,
}
# One class for each code: an error's code and status belong to its class.
_REFUSALS: Mapping[str, type[Refused]] = {
    code: type(
        f"Refused_{code}", (Refused,), {"code": code, "status": _STATUS.get(code, 422), "__doc__": Refused.__doc__}
    )
    for code in get_args(OutcomeCode)
}
