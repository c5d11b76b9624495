"""Every answered request gets into the log exactly once, whatever happens between the gateway and the table."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from common.events import RequestFinished
from common.ids import new_id
from common.topics import AUDIT_REQUESTS
from devstack.process import StackError
from devstack.stack import Stack
from support.accounts import Account
from support.audit_events import finished
from support.audit_log import all_logged_once, dead_letters, nothing_is_committed_that_is_not_written
from support.polling import until
from support.proxied import Proxied
from support.stack import further_copy, without
from support.topic_contents import values_of

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = pytest.mark.usefixtures("answered")
LOGGER = "audit-logger"


async def _requests(client: httpx.AsyncClient, count: int) -> list[str]:
    """Ids of requests of several kinds, of several partitions and of none."""
    paths = ("/v1/me", "/v1/credits", "/v1/nowhere", "/v1/admin/users")
    answers = await asyncio.gather(*(client.get(paths[number % len(paths)]) for number in range(count)))
    return [answer.headers["x-request-id"] for answer in answers]


async def _dies(stack: Stack) -> None:
    async def dead() -> bool:
        return bool(stack.status().to_json()["processes"][LOGGER]["state"] != "running")

    await until("audit-logger to be killed", dead, deadline_s=60)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("audit.fetched", marks=pytest.mark.long),
        "audit.copied",
        pytest.param("audit.committed", marks=pytest.mark.long),
        pytest.param("audit.buried", marks=pytest.mark.long),
    ],
)
async def test_killed_anywhere_it_writes_every_request_once(stack: Stack, payer: httpx.AsyncClient, place: str) -> None:
    """27, for the log."""
    poison = f"poison {new_id()}".encode()
    await stack.stop(LOGGER)
    try:
        ids = await _requests(payer, 40)
        await _publish(stack, poison)
        with suppress(StackError):  # it may die before it is ready
            await stack.start(LOGGER, {"FAULTPOINTS": place})
        await _dies(stack)
        ids += await _requests(payer, 20)
    finally:
        await stack.start(LOGGER)
    await all_logged_once(stack, ids)
    await nothing_is_committed_that_is_not_written(stack)
    # The place moves after the dead letter, so that a crash repeats one rather than losing one.
    assert 1 <= len([one for one in await dead_letters(stack) if one.value == poison]) <= 2


async def test_everything_delivered_twice_changes_nothing(stack: Stack, payer: httpx.AsyncClient) -> None:
    """28, for the log."""
    ids = await _requests(payer, 30)
    await all_logged_once(stack, ids)
    mine = [one.value for one in await values_of(stack, AUDIT_REQUESTS) if any(i.encode() in one.value for i in ids)]
    assert len(mine) == len(ids)
    await _publish(stack, *mine, *mine)
    later = await _requests(payer, 30)
    await all_logged_once(stack, [*ids, *later])
    await nothing_is_committed_that_is_not_written(stack)


async def test_poison_is_one_dead_letter_each_and_the_next_is_logged(stack: Stack) -> None:
    """30, for the log: a value that is none, headers that are none, and what is far too large."""
    mark = str(new_id())
    old = _event(mark, occurred_at="2020-01-01T00:00:00Z")
    poison = [f"{{ {mark}".encode(), old.encoded(), f'"{mark}{"x" * 900_000}"'.encode()]
    odd_headers, last = _event(mark), _event(mark)
    await _publish(stack, *poison)
    await _publish(stack, odd_headers.encoded(), headers=[("traceparent", b"\xff\xfe"), ("correlation_id", None)])
    await _publish(stack, None)
    await _publish(stack, last.encoded())
    await all_logged_once(stack, [str(odd_headers.event_id), str(last.event_id)])

    async def buried() -> bool:
        return len([one for one in await dead_letters(stack) if mark.encode() in (one.value or b"")]) >= len(poison)

    await until("the dead letters", buried, deadline_s=30)
    letters = [one for one in await dead_letters(stack) if mark.encode() in (one.value or b"")]
    assert len(letters) == len(poison)
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        assert headers["topic"] == AUDIT_REQUESTS.name
        assert "occurred_at" in headers["reason"] or headers["reason"].startswith("not a RequestFinished")
        assert mark not in headers["reason"]


async def test_a_client_that_leaves_in_mid_query_is_in_the_log_once_as_499_and_pays_nothing(
    admin: httpx.AsyncClient, account: Account, proxied: Proxied
) -> None:
    """12, for the log. What a stream has sent by then is charged: tests of streams say so."""
    proxied.clickhouse.black_hole()
    async with account.client(proxied.gateway, timeout_s=2) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/query", json={"limit": 1, "filters": {"email": f"{new_id().hex}@example.com"}})
    asked = {"user_id": str(account.user_id), "endpoint": "/v1/query"}

    async def logged() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await admin.get("/v1/admin/logs", params=asked)).json()
        return rows

    [entry] = await until("the request that nobody waited for", logged, deadline_s=60)
    assert (entry["status"], entry["credits_used"]) == (499, 0)
    proxied.heal()
    await account.settled_at(10)
    assert len(await logged()) == 1


@pytest.mark.long
async def test_a_rebalance_and_a_member_that_slept_through_it_write_every_request_once(
    stack: Stack, payer: httpx.AsyncClient
) -> None:
    """29, for the log. This broker throws no sleeping member out: it wakes with what it had in its hands."""
    async with _steady(payer) as ids, further_copy(stack, LOGGER, index=2):
        await asyncio.sleep(2)  # not a wait for something: the moment is meant to be any
        await stack.kill(LOGGER, signal.SIGSTOP)
        await asyncio.sleep(5)
        await stack.kill(LOGGER, signal.SIGCONT)
        await asyncio.sleep(2)
    await all_logged_once(stack, ids, deadline_s=120)
    await nothing_is_committed_that_is_not_written(stack)


@pytest.mark.long
async def test_without_kafka_for_a_minute_requests_are_answered_and_logged_afterwards(
    stack: Stack, payer: httpx.AsyncClient
) -> None:
    """25, for the log."""
    ids = await _requests(payer, 20)
    async with without(stack, "kafka"):
        for _ in range(12):
            ids += await _requests(payer, 20)
            await asyncio.sleep(5)
    ids += await _requests(payer, 20)
    await all_logged_once(stack, ids, deadline_s=120)
    await nothing_is_committed_that_is_not_written(stack)


@pytest.mark.long
async def test_after_ten_restarts_of_the_broker_the_log_goes_on_or_its_process_says_that_it_is_stuck(
    stack: Stack, payer: httpx.AsyncClient
) -> None:
    """38. Restarted in good order: this broker keeps no promise otherwise."""
    ids: list[str] = []
    for _ in range(10):
        ids += await _requests(payer, 10)
        await stack.restart("kafka")
    ids += await _requests(payer, 10)
    try:
        await all_logged_once(stack, ids, deadline_s=60)
    except AssertionError:
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{stack.ops_url(LOGGER)}/healthz")).status_code == 503
        await stack.restart(LOGGER)  # what an orchestrator does then
        await all_logged_once(stack, ids, deadline_s=60)
    await nothing_is_committed_that_is_not_written(stack)


def _event(mark: str, occurred_at: str | None = None) -> RequestFinished:
    """Of a request that cost nothing: a charge would have to be in the ledger."""
    at = occurred_at or datetime.now(UTC)
    return finished(event_id=new_id(), occurred_at=at, target=mark, credits_used_mc=0)


@asynccontextmanager
async def _steady(client: httpx.AsyncClient) -> AsyncIterator[list[str]]:
    """Requests all the time inside the block; their ids."""
    ids: list[str] = []
    stopping = asyncio.Event()

    async def ask() -> None:
        while not stopping.is_set():
            ids.extend(await _requests(client, 8))

    asking = asyncio.create_task(ask())
    try:
        yield ids
    finally:
        stopping.set()
        await asking


async def _publish(stack: Stack, *values: bytes | None, headers: list[tuple[str, bytes | None]] | None = None) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.status().to_json()["kafka"], acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(AUDIT_REQUESTS.name, value, key=b"some key", headers=headers)
    finally:
        await producer.stop()
