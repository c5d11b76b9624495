"""The charge that gates a query: no hold, no query."""

from __future__ import annotations

from common.credit_operations import Outcome
from common.errors import IdempotencyMismatch, InsufficientCredits
from gateway.audit_trail import Trail
from gateway.query_answer import Run
from gateway.query_repeat import IdempotencyKey
from gateway.wiring import Gateway

NO_DIGEST = "0" * 64


async def held(  # noqa: PLR0917 - what a hold is made of
    run: Run, key: IdempotencyKey | None, amount_mc: int, ttl_s: int, gateway: Gateway, trail: Trail
) -> Outcome:
    """The hold of another id belongs to an earlier request with the same key."""
    trail.hold = run.query_id  # before asking: an outcome that never arrives may have opened it
    # Without the header there is no key either: the hold's own id tells a retry, and costs the ledger a row less.
    name, digest = (key.value, key.digest) if key else (None, NO_DIGEST)
    try:
        outcome = await gateway.credits.reserve(run.caller.user_id, run.query_id, amount_mc, ttl_s, name, digest)
    except (InsufficientCredits, IdempotencyMismatch):
        trail.hold = None
        raise
    if outcome.hold_id != run.query_id:
        trail.hold = None
    return outcome
