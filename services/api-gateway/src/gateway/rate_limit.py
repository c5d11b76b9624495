"""Rate limits: a sliding window per user, shared by all gateways through Redis, by Redis's clock.

When Redis is down or slow, each process decides alone with the same rate: with n gateways at most n times the limit,
never nobody and never without limit. One call of Redis decides for everybody who waits.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.clock import Clock
from common.errors import RateLimited, Unavailable
from common.logs import get_logger
from common.metrics import counter
from gateway.merging import Merging
from gateway.roles import Caller
from gateway.settings import Plan, Settings

_log = get_logger(__name__)
_WINDOW_MS = 60_000
_ALONE_S = 1.0
_BATCH_MAX = 128
_WAITING_MAX = 10_000
_LOCAL_KEYS_MAX = 100_000
_decisions = counter("bigdata_rate_limit_decisions_total", "Admission decisions", "by", "result")

# State of a key is "window:count:previous". What was admitted in the previous window counts by the share of it that
# the last 60 seconds still cover. Always set with a TTL: nothing stays behind a user who stops asking.
_LUA = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local window, elapsed = math.floor(now / 60000), now % 60000
    local answer = {}
    for i, key in ipairs(KEYS) do
        local at, count, previous = string.match(redis.call('GET', key) or '', '(%d+):(%d+):(%d+)')
        at, count, previous = tonumber(at or 0), tonumber(count or 0), tonumber(previous or 0)
        if at ~= window then
            if at == window - 1 then previous = count else previous = 0 end
            count = 0
        end
        local admitted = 0
        if count + 1 + previous * (60000 - elapsed) / 60000 <= tonumber(ARGV[i]) then
            admitted, count = 1, count + 1
            redis.call('SET', key, string.format('%d:%d:%d', window, count, previous), 'PX', 120000)
        end
        answer[#answer + 1] = admitted
        answer[#answer + 1] = count
        answer[#answer + 1] = previous
        answer[#answer + 1] = elapsed
    end
    return table.concat(answer, ' ')  -- one text: a list of numbers takes ten times as long to read
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """`count`: admitted in this window, this request included; `elapsed_ms` of the window."""

    limit: int
    admitted: bool
    count: int
    previous: int
    elapsed_ms: int

    @property
    def remaining(self) -> int:
        used = self.count + self.previous * (_WINDOW_MS - self.elapsed_ms) / _WINDOW_MS
        return max(0, math.floor(self.limit - used)) if self.admitted else 0

    @property
    def reset_s(self) -> int:
        """Until the next request is admitted when this one was not; otherwise until the window ends."""
        rest = _WINDOW_MS - self.elapsed_ms
        if self.admitted:
            return math.ceil(rest / 1000)
        room = self.limit - 1 - self.count
        if room >= 0:  # the previous window's share has to shrink to the room that is left
            return max(1, math.ceil((rest - _WINDOW_MS * room / self.previous) / 1000))
        return max(1, math.ceil((rest + _WINDOW_MS * (1 - (self.limit - 1) / self.count)) / 1000))


class LocalWindows:
    """The same rule inside this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[int, int, int]] = {}

    def take(self, key: str, limit: int) -> Decision:
        now = int(self._clock.monotonic() * 1000)
        window, elapsed = divmod(now, _WINDOW_MS)
        at, count, previous = self._windows.get(key, (window, 0, 0))
        if at != window:
            previous = count if at == window - 1 else 0
            count = 0
        admitted = count + 1 + previous * (_WINDOW_MS - elapsed) / _WINDOW_MS <= limit
        count += admitted
        if len(self._windows) >= _LOCAL_KEYS_MAX and key not in self._windows:
            self._windows.pop(next(iter(self._windows)))
        self._windows[key] = (window, count, previous)
        return Decision(limit, admitted, count, previous, elapsed)


@dataclass(frozen=True, slots=True)
class Admission:
    """Call `leave` once when the request has ended, whatever became of it."""

    decision: Decision | None
    too_many_at_once: int | None
    leave: Callable[[], None] | None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        if self.decision is None:
            return []
        return [
            (b"ratelimit-limit", b"%d" % self.decision.limit),
            (b"ratelimit-remaining", b"%d" % self.decision.remaining),
            (b"ratelimit-reset", b"%d" % self.decision.reset_s),
        ]

    def raise_if_refused(self) -> None:
        if self.too_many_at_once is not None:
            raise RateLimited("Too many requests at once", details={"at_once": self.too_many_at_once}, retry_after_s=1)
        if self.decision is not None and not self.decision.admitted:
            raise RateLimited(details={"requests_per_minute": self.decision.limit}, retry_after_s=self.decision.reset_s)


class RateLimit:
    def __init__(self, redis: Redis, settings: Settings, clock: Clock) -> None:
        self._script = redis.register_script(_LUA)
        self._plans = settings.plans
        self._bad_keys_max = settings.bad_keys_per_minute
        self._deadline_s = settings.rate_limit_decision_s
        self._clock = clock
        self._local = LocalWindows(clock)
        self._strangers = LocalWindows(clock)
        self._alone_until = 0.0
        self._running: Counter[UUID] = Counter()
        self._asking: Merging[tuple[str, int], Decision] = Merging(
            self._ask, batch_max=_BATCH_MAX, waiting_max=_WAITING_MAX
        )

    async def admit(self, caller: Caller) -> Admission:
        """Count this request against the caller's plan. Never raises and takes at most rate_limit_decision_s."""
        plan = self._plans.get(caller.plan) or self._plans["standard"]
        if plan.at_once is not None and self._running[caller.user_id] >= plan.at_once:
            _decisions.labels("process", "refused").inc()
            return Admission(None, plan.at_once, None)
        # Entered before waiting for the decision: two that wait together must see each other.
        leave = self._enter(caller.user_id, plan)
        if plan.requests_per_minute is None:
            return Admission(None, None, leave)
        try:
            decision = await self._decide(f"limit:{caller.user_id}", plan.requests_per_minute)
        except BaseException:
            if leave is not None:  # cancelled: nobody else will
                leave()
            raise
        return Admission(decision, None, leave)

    def note_bad_key(self, address: str) -> None:
        """Raises RateLimited for an address that keeps guessing; nobody else notices."""
        decision = self._strangers.take(address, self._bad_keys_max)
        if not decision.admitted:
            raise RateLimited("Too many invalid API keys from this address", retry_after_s=decision.reset_s)

    def _enter(self, user_id: UUID, plan: Plan) -> Callable[[], None] | None:
        if plan.at_once is None:
            return None
        self._running[user_id] += 1

        def leave() -> None:
            self._running[user_id] -= 1
            if self._running[user_id] <= 0:
                del self._running[user_id]

        return leave

    async def _decide(self, key: str, limit: int) -> Decision:
        by = "redis"
        try:
            decision = await self._asking.submit((key, limit))
        except (_Alone, Unavailable):
            by = "process"
            decision = self._local.take(key, limit)
        _decisions.labels(by, "admitted" if decision.admitted else "refused").inc()
        return decision

    async def _ask(self, wanted: list[tuple[str, int]]) -> list[Decision]:
        if self._clock.monotonic() < self._alone_until:
            raise _Alone
        try:
            async with asyncio.timeout(self._deadline_s):
                text: bytes = await self._script(keys=[key for key, _ in wanted], args=[limit for _, limit in wanted])
        except (RedisError, OSError, TimeoutError) as exc:
            self._alone_until = self._clock.monotonic() + _ALONE_S
            _log.warning("redis does not answer, limiting alone", fault=repr(exc), pause_s=_ALONE_S)
            raise _Alone from exc
        flat = [int(figure) for figure in text.split()]
        return [
            Decision(limit, bool(flat[i]), flat[i + 1], flat[i + 2], flat[i + 3])
            for i, (_, limit) in zip(range(0, len(flat), 4), wanted, strict=True)
        ]


class _Alone(Exception):
    """Redis is not to be asked now."""
