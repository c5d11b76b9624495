"""When a request is tried again, and how long it waits before that. Pure, but for the jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass

from bigdata_client.errors import ApiError, BigDataError, IdempotencyInProgress, Unreachable

_TRY_LATER = frozenset({502, 503})
_RATE_LIMITED = 429
_DOUBLINGS_MAX = 6


@dataclass(frozen=True)
class Retries:
    """`wait_s_max`: when the answer asks for more patience than this, its error is raised at once."""

    attempts_max: int = 4
    first_wait_s: float = 0.25
    wait_s_max: float = 30.0

    def wait_s(self, attempt: int, fault: BigDataError, *, repeatable: bool) -> float | None:
        """Seconds until the next attempt, or None when there is none. `attempt` counts from 1."""
        if attempt >= self.attempts_max or not _worth_it(fault, repeatable=repeatable):
            return None
        asked_for = fault.retry_after_s if isinstance(fault, ApiError) else None
        if asked_for is not None:
            return asked_for if asked_for <= self.wait_s_max else None
        # Jitter, so that clients that failed together do not come back together.
        longest = self.first_wait_s * 2 ** min(attempt, _DOUBLINGS_MAX)
        return min(self.wait_s_max, random.uniform(longest / 2, longest))  # noqa: S311 - no secret


NEVER = Retries(attempts_max=1)


def _worth_it(fault: BigDataError, *, repeatable: bool) -> bool:
    """What was refused at the door may always come again; what may have happened, only if twice is as good as once."""
    match fault:
        case Unreachable():
            return repeatable or not fault.sent
        case IdempotencyInProgress():
            return True
        case ApiError():
            return fault.status == _RATE_LIMITED or (repeatable and fault.status in _TRY_LATER)
    return False
