import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from aiokafka import AIOKafkaProducer

from common.credit_operations import Outcome, Receipt
from gateway.credits_client import CreditsClient, RefusedOperation
from gateway.spool import Captured, Released, Spool
from gateway.spool_sender import open_spool
from support.audit_events import StoppedClock
from support.gateway_parts import FakeCredits, FakeProducer, gateway_settings
from support.polling import eventually

_ADA = UUID(int=7)


@asynccontextmanager
async def _running(folder: Path, **settings: Any) -> AsyncIterator[tuple[Spool, FakeCredits, FakeProducer]]:
    credits_client, producer = FakeCredits(), FakeProducer()
    async with open_spool(
        gateway_settings(folder, **settings),
        cast("CreditsClient", credits_client),
        cast("AIOKafkaProducer", producer),
        StoppedClock(),
    ) as spool:
        yield spool, credits_client, producer


def _captured(number: int, amount_mc: int = 1000) -> Captured:
    receipt = Receipt(query_id=UUID(int=number), dataset="people", state="captured", price_version="v1")
    return Captured(UUID(int=number), _ADA, amount_mc, receipt)


def _hold(number: int) -> str:
    return str(UUID(int=number))


async def test_settlement_and_event_are_on_their_way_within_100_ms(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, producer):
        started = time.perf_counter()
        spool.append(b'{"status":200}', _captured(1), _ADA)
        await eventually(lambda: credits_client.seen[_hold(1)] == 1 and len(producer.sent) == 1)
        assert time.perf_counter() - started < 0.1
        assert producer.sent == [(str(_ADA).encode(), {"status": 200})]
        await eventually(lambda: spool.pending_bytes == 0)


async def test_a_request_without_user_has_no_key(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, _, producer):
        spool.append(b'{"status":401}', None, None)
        await eventually(lambda: producer.sent == [(None, {"status": 401})])


async def test_events_of_one_user_go_to_one_partition_in_their_order(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, _, producer):
        for n in range(100):
            spool.append(b'{"n":%d}' % n, None, UUID(int=n % 5 + 1))
        await eventually(lambda: len(producer.sent) == 100)
        assert all(len(partitions) == 1 for partitions in producer.partition_of.values())
        assert len(producer.partition_of) == 5
        for key in producer.partition_of:
            numbers = [event["n"] for sent_key, event in producer.sent if sent_key == key]
            assert numbers == sorted(numbers)


async def test_credits_down_keeps_settlements_and_holds_up_no_event(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, producer):
        credits_client.down = True
        for n in range(20):
            spool.append(b"{}", _captured(n), _ADA)
        await eventually(lambda: len(producer.sent) == 20)
        assert spool.pending_bytes > 0
        credits_client.down = False
        await eventually(lambda: spool.pending_bytes == 0)
        assert len(credits_client.seen) == 20
        assert len(producer.sent) == 20


async def test_kafka_down_holds_up_no_settlement(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, producer):
        producer.down = True
        spool.append(b"{}", _captured(1), _ADA)
        await eventually(lambda: credits_client.seen[_hold(1)] == 1)
        assert spool.pending_bytes > 0
        producer.down = False
        await eventually(lambda: spool.pending_bytes == 0)


async def test_a_settlement_refused_for_good_lets_the_next_ones_through(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, _):
        credits_client.answers = {
            _hold(1): Outcome(ok=False, code="hold_closed", state="expired"),
            _hold(2): RefusedOperation(),
        }
        for n in range(4):
            spool.append(b"{}", _captured(n), _ADA)
        await eventually(lambda: spool.pending_bytes == 0)
        assert set(credits_client.seen) == {_hold(n) for n in range(4)}


async def test_a_release_of_a_hold_that_never_was_is_done(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, _):
        credits_client.answers = {_hold(1): Outcome(ok=False, code="unknown_hold")}
        spool.append(b"{}", Released(UUID(int=1), _ADA, "test"), _ADA)
        await eventually(lambda: spool.pending_bytes == 0)


async def test_stopping_sends_what_is_there_and_leaves_an_empty_folder(tmp_path: Path) -> None:
    async with _running(tmp_path) as (spool, credits_client, producer):
        for n in range(1000):
            spool.append(b"{}", _captured(n), _ADA)
    assert len(credits_client.seen) == 1000
    assert len(producer.sent) == 1000
    assert list((tmp_path / "spool").iterdir()) == []


async def test_what_could_not_be_sent_is_sent_by_the_next_process(tmp_path: Path) -> None:
    async with _running(tmp_path, shutdown_s=0.3) as (spool, credits_client, _):
        credits_client.down = True
        spool.append(b"{}", _captured(1), _ADA)
    async with _running(tmp_path) as (spool, credits_client, producer):
        await eventually(lambda: credits_client.seen[_hold(1)] == 1)
        await eventually(lambda: spool.pending_bytes == 0)
        assert producer.sent == []  # the first process had sent the event and noted it
