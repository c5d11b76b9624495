"""Sliding windows: what this minute has admitted, and of the minute before the share that 60 seconds still cover."""

import math
from dataclasses import dataclass

from common.clock import Clock

_WINDOW_MS = 60_000
_APART_MS_MAX = 1_000
_LOCAL_KEYS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Window:
    """`of`: whose it is, as a client may read it."""

    key: str
    limit: int
    of: str


@dataclass(frozen=True, slots=True)
class Decision:
    """By the window that leaves least. `count`: admitted in this minute, this request included; `elapsed_ms` of it."""

    limit: int
    admitted: bool
    count: int
    previous: int
    elapsed_ms: int
    of: str = "user"

    @property
    def used(self) -> float:
        return self.count + self.previous * (_WINDOW_MS - self.elapsed_ms) / _WINDOW_MS

    @property
    def remaining(self) -> int:
        return max(0, math.floor(self.limit - self.used)) if self.admitted else 0

    @property
    def full(self) -> bool:
        return self.used + 1 > self.limit

    @property
    def reset_s(self) -> int:
        """Until the next request is admitted when this one was not; otherwise until the minute ends."""
        rest = _WINDOW_MS - self.elapsed_ms
        if self.admitted:
            return math.ceil(rest / 1000)
        room = self.limit - 1 - self.count
        if room >= 0:  # the previous minute's share has to shrink to the room that is left
            return max(1, math.ceil((rest - _WINDOW_MS * room / max(1, self.previous)) / 1000))
        return max(1, math.ceil((rest + _WINDOW_MS * (1 - (self.limit - 1) / max(1, self.count))) / 1000))


def tightest(decisions: list[Decision]) -> Decision:
    """Of one request's windows: when it was refused the full one that lasts longest, else the one with least left."""
    if len(decisions) == 1:
        return decisions[0]
    if decisions[0].admitted:
        return min(decisions, key=lambda one: one.remaining)
    return max((one for one in decisions if one.full), key=lambda one: one.reset_s, default=decisions[0])


class LocalWindows:
    """The same rule inside this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = 0
        self._windows: dict[str, tuple[int, int, int]] = {}

    def agree(self, elapsed_ms: int) -> None:
        """Begin minutes when Redis does, never earlier: what it admits by its count is then never refused by ours."""
        _, elapsed = divmod(self._now_ms(), _WINDOW_MS)
        behind = (elapsed_ms - elapsed + _WINDOW_MS // 2) % _WINDOW_MS - _WINDOW_MS // 2
        if behind > 0 or behind < -_APART_MS_MAX:
            self._ahead_ms += behind

    def take(self, *wanted: Window) -> Decision:
        minute, elapsed = divmod(self._now_ms(), _WINDOW_MS)
        states = [self._state(window.key, minute) for window in wanted]
        share = (_WINDOW_MS - elapsed) / _WINDOW_MS
        admitted = all(
            count + 1 + previous * share <= window.limit
            for window, (count, previous) in zip(wanted, states, strict=True)
        )
        decisions = []
        for window, (count, previous) in zip(wanted, states, strict=True):
            self._keep(window.key, (minute, count + admitted, previous))
            decisions.append(Decision(window.limit, admitted, count + admitted, previous, elapsed, window.of))
        return tightest(decisions)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000) + self._ahead_ms

    def _state(self, key: str, minute: int) -> tuple[int, int]:
        at, count, previous = self._windows.get(key, (minute, 0, 0))
        if at == minute:
            return count, previous
        return 0, count if at == minute - 1 else 0

    def _keep(self, key: str, state: tuple[int, int, int]) -> None:
        if len(self._windows) >= _LOCAL_KEYS_MAX and key not in self._windows:
            self._windows.pop(next(iter(self._windows)))
        self._windows[key] = state
