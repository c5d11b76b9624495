"""Rate limits: sliding windows per user, key and class of routes, shared by all gateways, by Redis's clock.

Each process counts what it admits as well, by the same rates, and admits nothing beyond them: whatever Redis forgets,
and while it is down or slow and each process decides alone, n gateways admit at most n times the limit, never nobody
and never without limit. One call of Redis decides for everybody who waits.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Network
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from common.clock import Clock
from common.errors import RateLimited, Unavailable
from common.logs import get_logger
from common.metrics import counter
from gateway.merging import Merging
from gateway.rate_windows import Decision, LocalWindows, Window, tightest
from gateway.roles import Caller, Scope
from gateway.settings import Plan, Settings

_log = get_logger(__name__)
_ALONE_S = 1.0
_BATCH_MAX = 128
_WAITING_MAX = 10_000
_decisions = counter("bigdata_rate_limit_decisions_total", "Admission decisions", "by", "result")

# State of a window is "minute:count:previous". What was admitted in the previous minute counts by the share of it that
# the last 60 seconds still cover. A request counts in all of its windows or, when one is full, in none. Always set with
# a TTL: nothing stays behind a user who stops asking.
_LUA = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local minute, elapsed = math.floor(now / 60000), now % 60000
    local answer, k, a = {elapsed}, 0, 1
    while a <= #ARGV do
        local windows, admitted, counts, previouses = tonumber(ARGV[a]), 1, {}, {}
        for w = 1, windows do
            local at, count, previous = string.match(redis.call('GET', KEYS[k + w]) or '', '(%d+):(%d+):(%d+)')
            at, count, previous = tonumber(at or 0), tonumber(count or 0), tonumber(previous or 0)
            if at ~= minute then
                if at == minute - 1 then previous = count else previous = 0 end
                count = 0
            end
            if count + 1 + previous * (60000 - elapsed) / 60000 > tonumber(ARGV[a + w]) then admitted = 0 end
            counts[w], previouses[w] = count, previous
        end
        answer[#answer + 1] = admitted
        for w = 1, windows do
            local count = counts[w] + admitted
            if admitted == 1 then
                local state = string.format('%d:%d:%d', minute, count, previouses[w])
                redis.call('SET', KEYS[k + w], state, 'PX', 120000)
            end
            answer[#answer + 1] = count
            answer[#answer + 1] = previouses[w]
        end
        k, a = k + windows, a + windows + 1
    end
    return table.concat(answer, ' ')  -- one text: a list of numbers takes ten times as long to read
"""


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
            details = {"requests_per_minute": self.decision.limit, "of": self.decision.of}
            raise RateLimited(details=details, retry_after_s=self.decision.reset_s)


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
        self._asking: Merging[tuple[Window, ...], Decision] = Merging(
            self._ask, batch_max=_BATCH_MAX, waiting_max=_WAITING_MAX
        )

    async def admit(self, caller: Caller, routes: Scope = "query") -> Admission:
        """Count this request of one class of routes. Never raises and takes at most rate_limit_decision_s."""
        plan = self._plans.get(caller.plan) or self._plans["standard"]
        if plan.at_once is not None and self._running[caller.user_id] >= plan.at_once:
            _decisions.labels("process", "refused").inc()
            return Admission(None, plan.at_once, None)
        # Entered before waiting for the decision: two that wait together must see each other.
        leave = self._enter(caller.user_id, plan)
        windows = _windows(caller, plan, routes)
        if not windows:
            return Admission(None, None, leave)
        try:
            decision = await self._decide(windows)
        except BaseException:
            if leave is not None:  # cancelled: nobody else will
                leave()
            raise
        return Admission(decision, None, leave)

    def note_bad_key(self, address: str) -> None:
        """Raises RateLimited for an address that keeps guessing; nobody else notices."""
        decision = self._strangers.take(Window(_network(address), self._bad_keys_max, "address"))
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

    async def _decide(self, windows: tuple[Window, ...]) -> Decision:
        by = "redis"
        try:
            # Around the wait for the call before it as well: Redis may be slow without being away.
            async with asyncio.timeout(self._deadline_s):
                decision = await self._asking.submit(windows)
            if decision.admitted and not (own := self._local.take(*windows)).admitted:
                by, decision = "process", own
        except (_Alone, Unavailable, TimeoutError):
            by = "process"
            decision = self._local.take(*windows)
        _decisions.labels(by, "admitted" if decision.admitted else "refused").inc()
        return decision

    async def _ask(self, wanted: list[tuple[Window, ...]]) -> list[Decision]:
        if self._clock.monotonic() < self._alone_until:
            raise _Alone
        keys = [window.key for windows in wanted for window in windows]
        args = [figure for windows in wanted for figure in (len(windows), *(window.limit for window in windows))]
        try:
            async with asyncio.timeout(self._deadline_s):
                text: bytes = await self._script(keys=keys, args=args)
        except (RedisError, OSError, TimeoutError) as exc:
            self._alone_until = self._clock.monotonic() + _ALONE_S
            _log.warning("redis does not answer, limiting alone", fault=repr(exc), pause_s=_ALONE_S)
            raise _Alone from exc
        figures = map(int, text.split())
        elapsed = next(figures)
        self._local.agree(elapsed)
        return [_decision(windows, elapsed, figures) for windows in wanted]


def _decision(windows: tuple[Window, ...], elapsed: int, figures: Iterator[int]) -> Decision:
    admitted = bool(next(figures))
    return tightest(
        [Decision(window.limit, admitted, next(figures), next(figures), elapsed, window.of) for window in windows]
    )


def _windows(caller: Caller, plan: Plan, routes: Scope) -> tuple[Window, ...]:
    """Where this request counts: of its user, of its user and class of routes, of its key."""
    user = f"limit:{caller.user_id}"
    of_class = plan.by_class.get(routes) if plan.by_class else None
    of_key = caller.requests_per_minute or plan.key_requests_per_minute
    windows = [] if plan.requests_per_minute is None else [Window(user, plan.requests_per_minute, "user")]
    if of_class is not None:
        windows.append(Window(f"{user}:{routes}", of_class, routes))
    if of_key is not None:
        windows.append(Window(f"limit:key:{caller.key_id}", of_key, "key"))
    return tuple(windows)


def _network(address: str) -> str:
    """Whoever has an IPv6 address has 2^64 of them."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address, 64), strict=False))
    except ValueError:
        return address


class _Alone(Exception):
    """Redis is not to be asked now."""
