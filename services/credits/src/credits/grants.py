"""What operators do to a balance: open it, grant, set, refund. Everything but opening has a key and an actor."""

import hashlib
from typing import Any

from common.credit_operations import Grant, OpenAccount, Refund, SetBalance
from credits.ledger import Row


def open_account(ask: OpenAccount) -> Row:
    """Opening an open account sets its low-balance threshold and changes nothing else."""
    return Row(op="open_account", user_id=ask.user_id, amount=ask.low_balance_mc)


def grant(ask: Grant) -> Row:
    return Row(op="grant", user_id=ask.user_id, amount=ask.amount_mc, **_signed(ask))


def set_balance(ask: SetBalance) -> Row:
    return Row(op="set_balance", user_id=ask.user_id, amount=ask.amount_mc, **_signed(ask))


def refund(ask: Refund) -> Row:
    """The user is the refunded entry's."""
    return Row(op="refund", entry_id=ask.entry_id, amount=ask.amount_mc, **_signed(ask))


def _signed(ask: Grant | SetBalance | Refund) -> dict[str, Any]:
    digest = hashlib.sha256(ask.model_dump_json(exclude={"key", "traceparent"}).encode()).digest()
    return {"key": ask.key, "digest": digest, "actor": ask.actor, "reason": ask.reason}
