"""Answers at once for a service that does not: nobody waits for a deadline that somebody else has just waited for."""

from common.clock import Clock
from common.errors import Unavailable

_FAILURES_TO_OPEN = 3
_OPEN_S = 1.0


class Breaker:
    """Answers at once while the service is down: after three failures in a row, one caller a second tries."""

    def __init__(self, clock: Clock, call_s: float) -> None:
        self._clock = clock
        self._call_s = call_s
        self._failures = 0
        self._closed_again_at = 0.0

    def admit(self) -> None:
        """Raises Unavailable. Asked before queueing: nobody waits behind the one who tries."""
        if self._failures < _FAILURES_TO_OPEN:
            return
        now = self._clock.monotonic()
        if now < self._closed_again_at:
            raise Unavailable("Credits are not available, try again shortly")
        self._closed_again_at = now + self._call_s + _OPEN_S

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._closed_again_at = self._clock.monotonic() + _OPEN_S
