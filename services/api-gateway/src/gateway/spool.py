"""The spool of finished requests: what was answered but not yet acknowledged by credits and Kafka."""

from dataclasses import dataclass
from uuid import UUID

from common.credit_operations import Receipt, StoredAnswer


@dataclass(frozen=True, slots=True)
class Captured:
    hold_id: UUID
    user_id: UUID
    amount_mc: int
    receipt: Receipt
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True)
class Released:
    hold_id: UUID
    user_id: UUID
    reason: str
    receipt: Receipt | None = None


class Spool:
    """Filled in next."""
