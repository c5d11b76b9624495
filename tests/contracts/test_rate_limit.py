"""The limiter's rule in Lua on a real Redis, and in Python for a process that limits alone: the same answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio
from redis.asyncio import Redis

from common.clock import SystemClock
from common.ids import new_id
from common.redis import open_redis
from devstack.stack import Stack
from gateway.rate_limit import RateLimit
from gateway.roles import Caller
from gateway.settings import Settings
from support.gateway_parts import caller, gateway_settings

_PLANS = {"standard": {"requests_per_minute": 10, "at_once": None}}


def _settings(folder: Path, url: str) -> Settings:
    return gateway_settings(folder, redis_url=url, redis_timeout_s=5, rate_limit_decision_s=1, plans=_PLANS)


@pytest_asyncio.fixture
async def redis(servers: Stack, tmp_path: Path) -> AsyncIterator[Redis]:
    async with open_redis(_settings(tmp_path, str(servers.status().to_json()["redis"]))) as client:
        yield client


async def test_gateways_share_one_window_and_admit_exactly_the_limit(redis: Redis, tmp_path: Path) -> None:
    user = caller(user_id=new_id())
    gateways = [RateLimit(redis, _settings(tmp_path, "redis://unused"), SystemClock()) for _ in range(3)]
    admissions = await asyncio.gather(*(gateway.admit(user) for _ in range(20) for gateway in gateways))
    decisions = [admission.decision for admission in admissions if admission.decision is not None]
    assert sum(decision.admitted for decision in decisions) == 10
    assert min(decision.remaining for decision in decisions if decision.admitted) == 0
    assert all(1 <= decision.reset_s <= 121 for decision in decisions)


async def test_redis_and_the_process_alone_decide_the_same(redis: Redis, tmp_path: Path) -> None:
    user = caller(user_id=new_id())
    settings = _settings(tmp_path, "redis://unused")
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    shared, alone = RateLimit(redis, settings, SystemClock()), RateLimit(nowhere, settings, SystemClock())
    for limit in (shared, alone):
        seen = [(await limit.admit(user)).decision for _ in range(12)]
        assert [decision.admitted for decision in seen if decision] == [True] * 10 + [False] * 2
        assert [decision.count for decision in seen if decision] == [*range(1, 11), 10, 10]
    await nowhere.aclose()


async def test_user_key_and_class_of_routes_are_windows_of_one_call(redis: Redis, tmp_path: Path) -> None:
    plans = {"standard": {"requests_per_minute": 10, "by_class": {"ingest": 3}, "key_requests_per_minute": 6}}
    settings = gateway_settings(tmp_path, redis_url="redis://unused", rate_limit_decision_s=1, plans=plans)
    nowhere = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1)
    user_id = new_id()
    keys = [replace(caller(user_id=user_id), key_id=new_id()) for _ in range(2)]
    for limit in (RateLimit(redis, settings, SystemClock()), RateLimit(nowhere, settings, SystemClock())):
        ingesting = [(await limit.admit(keys[0], "ingest")).decision for _ in range(4)]
        asking = [(await limit.admit(keys[0])).decision for _ in range(4)]
        other = [(await limit.admit(keys[1])).decision for _ in range(5)]
        seen = [[one.admitted for one in part if one] for part in (ingesting, asking, other)]
        assert seen == [[True] * 3 + [False], [True] * 3 + [False], [True] * 4 + [False]]
        assert [part[-1].of for part in (ingesting, asking, other) if part[-1]] == ["ingest", "key", "user"]
    await nowhere.aclose()
    windows = [key async for key in redis.scan_iter(f"limit:{user_id}*")]
    assert len(windows) == 2
    assert all([0 < await redis.pttl(key) <= 120_000 for key in windows])


async def test_no_key_stays_for_ever_and_a_flush_costs_one_window_of_other_gateways(
    redis: Redis, tmp_path: Path
) -> None:
    user = caller(user_id=new_id())
    limit = RateLimit(redis, _settings(tmp_path, "redis://unused"), SystemClock())
    for _ in range(12):
        await limit.admit(user)
    assert 0 < await redis.pttl(f"limit:{user.user_id}") <= 120_000
    await redis.flushall()
    another = RateLimit(redis, _settings(tmp_path, "redis://unused"), SystemClock())
    assert await _admitted(another, user) == 10
    assert not await _admitted(limit, user)  # it has counted its own


async def _admitted(limit: RateLimit, user: Caller) -> int:
    decisions = [(await limit.admit(user)).decision for _ in range(12)]
    return sum(decision.admitted for decision in decisions if decision)
