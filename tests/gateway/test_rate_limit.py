import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from common.errors import RateLimited
from gateway.rate_limit import RateLimit
from gateway.rate_windows import Decision, LocalWindows, Window
from support.audit_events import StoppedClock
from support.gateway_parts import caller, gateway_settings


class _FakeRedis:
    """Runs no Lua: admits what it is told, or fails as it is told."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.silent = False
        self.calls: list[list[str]] = []
        self.admit = True

    def register_script(self, _source: str) -> Any:
        async def run(keys: list[str], args: list[int]) -> bytes:
            self.calls.append(keys)
            if self.silent:
                await asyncio.Event().wait()
            if self.fault is not None:
                raise self.fault
            return b"1000 " + b" ".join(b"1 1 0" if self.admit else b"0 600 0" for _ in args[::2])

        return run


def _limit(folder: Path, redis: _FakeRedis, clock: StoppedClock | None = None, **settings: Any) -> RateLimit:
    return RateLimit(cast("Redis", redis), gateway_settings(folder, **settings), clock or StoppedClock())


def _window(key: str, limit: int, of: str = "user") -> Window:
    return Window(key, limit, of)


def test_a_window_admits_exactly_the_limit() -> None:
    windows = LocalWindows(StoppedClock())
    assert sum(windows.take(_window("ada", 10)).admitted for _ in range(100)) == 10
    assert windows.take(_window("bob", 10)).admitted


def test_the_window_slides_so_that_no_burst_doubles_the_rate() -> None:
    clock = StoppedClock()
    windows = LocalWindows(clock)
    clock.seconds = 59.9
    assert sum(windows.take(_window("ada", 60)).admitted for _ in range(100)) == 60
    clock.seconds = 60.1
    assert sum(windows.take(_window("ada", 60)).admitted for _ in range(100)) == 0
    clock.seconds = 90
    assert sum(windows.take(_window("ada", 60)).admitted for _ in range(100)) == 30
    clock.seconds = 300
    assert sum(windows.take(_window("ada", 60)).admitted for _ in range(100)) == 60


def test_retry_after_is_when_a_request_is_admitted_again() -> None:
    clock = StoppedClock()
    windows = LocalWindows(clock)
    clock.seconds = 10
    while (refused := windows.take(_window("ada", 6))).admitted:
        pass
    assert refused.remaining == 0
    clock.seconds += refused.reset_s - 2
    assert not windows.take(_window("ada", 6)).admitted
    clock.seconds += 3
    assert windows.take(_window("ada", 6)).admitted


def test_remaining_counts_what_is_still_admitted() -> None:
    assert Decision(limit=600, admitted=True, count=1, previous=0, elapsed_ms=0).remaining == 599
    assert Decision(limit=600, admitted=True, count=1, previous=300, elapsed_ms=30_000).remaining == 449


async def test_headers_tell_limit_remaining_and_reset(tmp_path: Path) -> None:
    admission = await _limit(tmp_path, _FakeRedis()).admit(caller())
    assert dict(admission.headers) == {
        b"ratelimit-limit": b"600", b"ratelimit-remaining": b"599", b"ratelimit-reset": b"59",
    }  # fmt: skip


async def test_those_who_wait_share_one_call(tmp_path: Path) -> None:
    redis = _FakeRedis()
    limit = _limit(tmp_path, redis)
    people = [caller(user_id=UUID(int=n)) for n in range(50)]
    await asyncio.gather(*map(limit.admit, people))
    assert [len(call) for call in redis.calls] == [50]


async def test_over_the_limit_is_refused_with_retry_after(tmp_path: Path) -> None:
    redis = _FakeRedis()
    redis.admit = False
    admission = await _limit(tmp_path, redis).admit(caller())
    with pytest.raises(RateLimited) as refused:
        admission.raise_if_refused()
    assert int(refused.value.headers()["Retry-After"]) >= 1


@pytest.mark.parametrize("silent", [True, False])
async def test_without_redis_the_process_limits_alone_and_quickly(tmp_path: Path, *, silent: bool) -> None:
    redis = _FakeRedis()
    redis.silent, redis.fault = silent, RedisConnectionError("gone")
    clock = StoppedClock()
    plans = {"standard": {"requests_per_minute": 5}}
    limit = _limit(tmp_path, redis, clock, plans=plans, rate_limit_decision_s=0.05)
    async with asyncio.timeout(0.5):
        admissions = [await limit.admit(caller()) for _ in range(10)]
    assert [a.decision.admitted for a in admissions if a.decision] == [True] * 5 + [False] * 5
    assert len(redis.calls) == 1  # one request was one try, and the next ones did not wait for it
    redis.silent, redis.fault = False, None
    clock.seconds += 2
    await limit.admit(caller())
    assert len(redis.calls) == 2


async def test_what_redis_forgets_is_not_admitted_again_by_the_same_process(tmp_path: Path) -> None:
    limit = _limit(tmp_path, _FakeRedis(), plans={"standard": {"requests_per_minute": 5}})  # it always says the first
    admissions = [await limit.admit(caller()) for _ in range(10)]
    assert [a.decision.admitted for a in admissions if a.decision] == [True] * 5 + [False] * 5


async def test_what_redis_admitted_counts_when_it_goes_away(tmp_path: Path) -> None:
    redis = _FakeRedis()
    limit = _limit(tmp_path, redis, plans={"standard": {"requests_per_minute": 5}})
    before = [await limit.admit(caller()) for _ in range(3)]
    redis.fault = RedisConnectionError("gone")
    after = [await limit.admit(caller()) for _ in range(4)]
    assert [a.decision.admitted for a in [*before, *after] if a.decision] == [True] * 5 + [False] * 2


@given(st.integers(0, 59_999), st.integers(0, 59_999), st.integers(-100, 900))
def test_a_minute_never_begins_before_that_of_redis(ours_ms: int, theirs_ms: int, later_ms: int) -> None:
    """So a process that admits alone has never counted more than Redis has."""
    clock = StoppedClock()
    clock.seconds = ours_ms / 1000
    windows = LocalWindows(clock)
    windows.agree(theirs_ms)
    windows.agree((theirs_ms + later_ms) % 60_000)
    elapsed = windows.take(_window("ada", 10)).elapsed_ms
    assert (elapsed - theirs_ms - later_ms) % 60_000 <= 1_000


async def test_an_unlimited_plan_asks_nobody(tmp_path: Path) -> None:
    redis = _FakeRedis()
    admission = await _limit(tmp_path, redis).admit(caller(plan="unlimited"))
    admission.raise_if_refused()
    assert (admission.headers, redis.calls) == ([], [])


async def test_too_many_at_once_are_refused_until_some_have_ended(tmp_path: Path) -> None:
    limit = _limit(tmp_path, _FakeRedis(), plans={"standard": {"at_once": 2}})
    first, second, third = [await limit.admit(caller()) for _ in range(3)]
    with pytest.raises(RateLimited):
        third.raise_if_refused()
    (await limit.admit(caller(user_id=UUID(int=8)))).raise_if_refused()
    assert first.leave is not None
    first.leave()
    (await limit.admit(caller())).raise_if_refused()
    second.raise_if_refused()


async def test_an_address_that_guesses_keys_is_slowed_down(tmp_path: Path) -> None:
    limit = _limit(tmp_path, _FakeRedis(), bad_keys_per_minute=3)
    for _ in range(3):
        limit.note_bad_key("192.0.2.1")
    with pytest.raises(RateLimited):
        limit.note_bad_key("192.0.2.1")
    limit.note_bad_key("192.0.2.2")


def test_a_request_counts_in_all_of_its_windows_or_in_none() -> None:
    windows = LocalWindows(StoppedClock())
    user, key = _window("ada", 5), _window("key", 2, "key")
    seen = [windows.take(user, key) for _ in range(4)]
    assert [(one.admitted, one.of, one.remaining) for one in seen] == [
        (True, "key", 1), (True, "key", 0), (False, "key", 0), (False, "key", 0),
    ]  # fmt: skip
    left = [windows.take(user) for _ in range(4)]
    assert [one.admitted for one in left] == [True, True, True, False]


async def test_a_plan_limits_classes_of_routes_and_single_keys(tmp_path: Path) -> None:
    plans = {"standard": {"requests_per_minute": 10, "by_class": {"ingest": 2}, "key_requests_per_minute": 4}}
    redis = _FakeRedis()
    redis.fault = RedisConnectionError("gone")
    limit = _limit(tmp_path, redis, plans=plans)
    ingesting = [(await limit.admit(caller(), "ingest")).decision for _ in range(3)]
    assert [(one.admitted, one.of) for one in ingesting if one][1:] == [(True, "ingest"), (False, "ingest")]
    asking = [(await limit.admit(caller(), "query")).decision for _ in range(3)]
    assert [(one.admitted, one.of) for one in asking if one][1:] == [(True, "key"), (False, "key")]
    other_key = replace(caller(), key_id=UUID(int=71))
    decision = (await limit.admit(other_key, "query")).decision
    assert decision
    assert (decision.admitted, decision.of, decision.remaining) == (True, "key", 3)


async def test_a_keys_own_limit_counts_beside_an_unlimited_plan(tmp_path: Path) -> None:
    redis = _FakeRedis()
    redis.fault = RedisConnectionError("gone")
    limit = _limit(tmp_path, redis)
    small = replace(caller(plan="unlimited"), requests_per_minute=2)
    decisions = [(await limit.admit(small)).decision for _ in range(3)]
    assert [one.admitted for one in decisions if one] == [True, True, False]
    assert (await limit.admit(caller(plan="unlimited"))).decision is None


async def test_a_slow_redis_is_not_waited_for_behind_the_call_before(tmp_path: Path) -> None:
    """The first call never comes back; whoever queued behind it is decided for within the same deadline."""
    redis = _FakeRedis()
    redis.silent = True
    limit = _limit(tmp_path, redis, plans={"standard": {"requests_per_minute": 5}}, rate_limit_decision_s=0.05)
    async with asyncio.timeout(30):
        decisions = [(await one).decision for one in [asyncio.ensure_future(limit.admit(caller())) for _ in range(9)]]
    assert sum(one.admitted for one in decisions if one) == 5
    assert len(redis.calls) == 1


def test_an_ipv6_network_is_one_address(tmp_path: Path) -> None:
    limit = _limit(tmp_path, _FakeRedis(), bad_keys_per_minute=1)
    limit.note_bad_key("2001:db8::1")
    with pytest.raises(RateLimited):
        limit.note_bad_key("2001:db8::ffff")
    limit.note_bad_key("2001:db8:0:1::1")
    limit.note_bad_key("not an address: at all")


@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8", "127.0.0.1, ::1", "*"])
def test_proxies_are_addresses_and_networks(tmp_path: Path, proxies: str) -> None:
    assert gateway_settings(tmp_path, trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("proxies", ["proxy", "10.0.0.1/8", "1.2.3.4.5"])
def test_what_is_no_address_is_no_proxy(tmp_path: Path, proxies: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        gateway_settings(tmp_path, trusted_proxies=proxies)
