import asyncio
import hashlib
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from common.errors import BadHeader, InvalidApiKey, MissingApiKey, Unavailable
from common.postgres import Pool
from gateway.api_keys import ApiKeys, new_key, presented_key
from support.audit_events import StoppedClock
from support.gateway_parts import gateway_settings

_KEY = b"bd_0011aabb_secret"
_NO_KEY: tuple[list[tuple[bytes, bytes]], ...] = (
    [],
    [(b"x-api-key", b"")],
    [(b"x-api-key", b"  ")],
    [(b"authorization", b"Bearer ")],
)
_STRANGE = (b"\xff\xfe", "schlüssel".encode(), b"x" * 1_000_000, hashlib.sha256(_KEY).hexdigest().encode())


class _FakePool:
    """Knows one key."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.down = False
        self.active = True
        self.left_s: float | None = None
        self.noted: list[Any] = []

    async def acquire(self) -> "_FakePool":
        return self

    async def release(self, _connection: "_FakePool") -> None:
        pass

    async def fetch(self, _statement: str, digests: list[str]) -> list[dict[str, Any]]:
        self.asked.append(digests)
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionRefusedError
        known = hashlib.sha256(_KEY).hexdigest()
        row = {
            "key_sha256": known, "key_id": UUID(int=1), "scopes": None, "user_id": UUID(int=2),
            "username": "ada", "role": "user", "plan": "standard", "datasets": [], "requests_per_minute": None,
            "left_s": self.left_s,
        }  # fmt: skip
        return [row] if self.active and known in digests else []

    async def execute(self, _statement: str, *parameters: Any) -> None:
        self.noted.append(parameters)


def _keys(folder: Path, clock: StoppedClock | None = None) -> tuple[ApiKeys, _FakePool]:
    pool = _FakePool()
    return ApiKeys(cast("Pool", pool), gateway_settings(folder), clock or StoppedClock()), pool


def test_a_key_is_read_from_either_header() -> None:
    assert presented_key([(b"x-api-key", b"abc")]) == b"abc"
    assert presented_key([(b"authorization", b"Bearer abc")]) == b"abc"
    assert presented_key([(b"authorization", b"bearer  abc ")]) == b"abc"


@pytest.mark.parametrize("headers", _NO_KEY)
def test_no_key_is_missing(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MissingApiKey):
        presented_key(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", b"a"), (b"x-api-key", b"a")],
        [(b"x-api-key", b"a"), (b"authorization", b"Bearer a")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")],
    ],
)
def test_two_keys_are_a_bad_header(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadHeader):
        presented_key(headers)


def test_another_kind_of_authorization_is_no_key() -> None:
    with pytest.raises(InvalidApiKey):
        presented_key([(b"authorization", b"Basic YTpi")])


def test_new_keys_are_long_name_themselves_and_are_stored_hashed() -> None:
    first, second = new_key(), new_key()
    assert first.secret.startswith(first.prefix + "_")
    assert first.prefix != second.prefix
    assert len(first.secret) > 50
    assert first.sha256 == hashlib.sha256(first.secret.encode()).hexdigest()


async def test_a_known_key_asks_the_store_once_in_five_seconds(tmp_path: Path) -> None:
    clock = StoppedClock()
    keys, pool = _keys(tmp_path, clock)
    for _ in range(10):
        assert (await keys.caller(_KEY)).username == "ada"
    assert len(pool.asked) == 1
    clock.seconds += 5
    await keys.caller(_KEY)
    assert len(pool.asked) == 2


async def test_a_revoked_key_dies_within_five_seconds(tmp_path: Path) -> None:
    clock = StoppedClock()
    keys, pool = _keys(tmp_path, clock)
    await keys.caller(_KEY)
    pool.active = False
    clock.seconds += 5
    with pytest.raises(InvalidApiKey):
        await keys.caller(_KEY)


async def test_an_unknown_key_is_remembered_as_unknown(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    for _ in range(10):
        with pytest.raises(InvalidApiKey):
            await keys.caller(b"guess")
    assert len(pool.asked) == 1


async def test_forgetting_makes_a_new_key_work_at_once(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    pool.active = False
    with pytest.raises(InvalidApiKey):
        await keys.caller(_KEY)
    pool.active = True
    keys.forget_all()
    assert (await keys.caller(_KEY)).role == "user"


@pytest.mark.parametrize("key", _STRANGE)
async def test_strange_keys_are_invalid_and_nothing_worse(tmp_path: Path, key: bytes) -> None:
    keys, _ = _keys(tmp_path)
    with pytest.raises(InvalidApiKey):
        await keys.caller(key)


async def test_without_the_store_a_key_is_unavailable_not_invalid(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    pool.down = True
    with pytest.raises(Unavailable):
        await keys.caller(_KEY)
    pool.down = False
    assert (await keys.caller(_KEY)).username == "ada"


async def test_whatever_is_wrong_with_a_key_the_same_is_done(tmp_path: Path) -> None:
    """So an unknown prefix and a wrong secret take the same time: one look-up of one digest, for each of them."""
    keys, pool = _keys(tmp_path)
    for wrong in (b"bd_0011aabb_wrong", b"bd_ffffffff_secret", b"x", _KEY[:-1], _KEY.upper()):
        with pytest.raises(InvalidApiKey):
            await keys.caller(wrong)
        assert pool.asked.pop() == [hashlib.sha256(wrong).hexdigest()]
        assert not pool.asked


async def test_a_key_is_not_kept_longer_than_it_lives(tmp_path: Path) -> None:
    clock = StoppedClock()
    keys, pool = _keys(tmp_path, clock)
    pool.left_s = 2.0
    await keys.caller(_KEY)
    clock.seconds += 2
    pool.active = False
    with pytest.raises(InvalidApiKey):
        await keys.caller(_KEY)


async def test_a_change_that_is_announced_during_a_look_up_is_not_overwritten_by_it(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    asking = asyncio.ensure_future(keys.caller(_KEY))
    await asyncio.sleep(0)
    keys.forget(UUID(int=2))
    await asking
    pool.active = False
    with pytest.raises(InvalidApiKey):
        await keys.caller(_KEY)


async def test_forgetting_one_user_leaves_the_others(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    await keys.caller(_KEY)
    keys.forget(UUID(int=3))
    await keys.caller(_KEY)
    assert len(pool.asked) == 1
    keys.forget(UUID(int=2))
    await keys.caller(_KEY)
    assert len(pool.asked) == 2


async def test_many_strangers_are_one_look_up(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    results = await asyncio.gather(*(keys.caller(b"guess %d" % n) for n in range(100)), return_exceptions=True)
    assert all(isinstance(result, InvalidApiKey) for result in results)
    assert len(pool.asked) == 1


async def test_use_is_noted_once_for_many_requests(tmp_path: Path) -> None:
    keys, pool = _keys(tmp_path)
    for _ in range(10):
        await keys.caller(_KEY)
    await keys.note_use()
    await keys.note_use()
    assert [ids for ids, _ in pool.noted] == [[UUID(int=1)]]
