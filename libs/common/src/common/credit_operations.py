"""What the gateway asks of the credits service: operations in, one outcome each. Internal; amounts in millicredits."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

AMOUNT_MAX_MC = 10**15
Amount = Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX_MC)]
PositiveAmount = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX_MC)]
Key = Annotated[str, Field(min_length=1, max_length=255)]
Ttl = Annotated[int, Field(strict=True, ge=1, le=3600)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Receipt(_Model):
    """What a finished query cost and why. `price` holds the figures of the price rule, so that it can be recomputed."""

    query_id: UUID
    dataset: str
    state: Literal["captured", "released"]
    rows: int = Field(0, ge=0)
    duration_ms: float = Field(0, ge=0)
    price_version: str
    price: dict[str, Any] = Field(default_factory=dict)
    refund_reason: str | None = None


class StoredAnswer(_Model):
    """An answer kept for 24 hours so that a repeat of its Idempotency-Key gets it byte for byte."""

    status: int
    headers: dict[str, str]
    body_base64: str


class _Asked(_Model):
    traceparent: str | None = Field(None, max_length=64, description="the trace it belongs to, if there is one")


class OpenAccount(_Asked):
    op: Literal["open_account"] = "open_account"
    user_id: UUID
    low_balance_mc: Amount = 0


class Reserve(_Asked):
    """Open a hold. The caller chooses hold_id: an outcome with another one is an earlier request with the same key.

    Without a key hold_id alone tells a retry, which costs the ledger one row less. A key whose hold was released or
    has expired opens a new one: nothing was delivered and nothing charged.
    """

    op: Literal["reserve"] = "reserve"
    user_id: UUID
    hold_id: UUID
    amount_mc: Amount
    ttl_s: Ttl
    key: Key | None = None
    digest: str = Field(pattern="^[0-9a-f]{64}$")


class _OnHold(_Asked):
    user_id: UUID | None = Field(None, description="when known: keeps the queue fair, and must be the hold's")
    hold_id: UUID


class _Posting(_Asked):
    """Who posts it and why; the key makes a repeat harmless."""

    actor: str
    reason: str = Field("", max_length=500)
    key: Key


class Extend(_OnHold):
    op: Literal["extend"] = "extend"
    ttl_s: Ttl


class Capture(_OnHold):
    op: Literal["capture"] = "capture"
    amount_mc: Amount
    receipt: Receipt
    answer: StoredAnswer | None = None


class Release(_OnHold):
    op: Literal["release"] = "release"
    reason: str = Field(max_length=200)
    receipt: Receipt | None = None


class Grant(_Posting):
    op: Literal["grant"] = "grant"
    user_id: UUID
    amount_mc: PositiveAmount


class SetBalance(_Posting):
    """Posts the adjustment that makes posted equal to amount_mc."""

    op: Literal["set_balance"] = "set_balance"
    user_id: UUID
    amount_mc: Amount


class Refund(_Posting):
    op: Literal["refund"] = "refund"
    entry_id: UUID
    amount_mc: PositiveAmount


Operation = Annotated[
    OpenAccount | Reserve | Extend | Capture | Release | Grant | SetBalance | Refund, Field(discriminator="op")
]


class Batch(_Model):
    operations: list[Operation] = Field(min_length=1, max_length=512)


OutcomeCode = Literal[
    "insufficient_credits",
    "idempotency_mismatch",
    "hold_closed",
    "capture_exceeds_hold",
    "amount_out_of_range",
    "refund_exceeds_capture",
    "unknown_user",
    "unknown_hold",
    "unknown_entry",
    "internal",
]


class Outcome(_Model):
    """ok, or the code of the refusal. `replayed`: the key was seen before and this is what happened then.

    internal: the ledger's own constraints refused it, nothing changed. An outage is no outcome: the call answers 503.
    """

    ok: bool
    code: OutcomeCode | None = None
    replayed: bool = False
    hold_id: UUID | None = None
    entry_id: UUID | None = None
    state: Literal["open", "captured", "released", "expired"] | None = None
    amount_mc: int | None = None
    posted_mc: int | None = None
    available_mc: int | None = Field(None, description="after the operation")
    needed_mc: int | None = None


class Outcomes(_Model):
    outcomes: list[Outcome]
