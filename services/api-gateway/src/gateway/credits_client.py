"""The gateway's side of credits."""

from uuid import UUID

from common.credit_operations import Outcome


class CreditsClient:
    async def reserve(
        self, user_id: UUID, hold_id: UUID, amount_mc: int, ttl_s: int, key: str, digest: str
    ) -> Outcome:
        """Open a hold. Raises InsufficientCredits, IdempotencyMismatch, Unavailable.

        An outcome whose hold_id is not the one asked for belongs to an earlier request with the same key.
        """
        raise NotImplementedError

    async def extend(self, hold_id: UUID, ttl_s: int) -> bool:
        """Keep a hold open for a long stream; False when it has ended and the stream must be cut."""
        raise NotImplementedError
