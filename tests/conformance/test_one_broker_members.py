"""Members that sleep until the broker throws them out, with work in their hands: the local broker never does that."""

import asyncio
import signal

import httpx
import pytest

from common.ids import new_id
from devstack.stack import Stack
from support.audit_log import all_logged_once
from support.http_faults import open_insert_faults
from support.offsets import committed_past_effect, members
from support.polling import until
from support.records import accepted, all_durable, all_shown, people, produce
from support.stack import further_copy

# The check after each test needs it, and a fixture cannot be asked for in time by another one.
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.brokers("apache"),
    pytest.mark.usefixtures("answered"),
]
_CHANGED_S = 60


async def _group_has(stack: Stack, group: str, count: int) -> None:
    async def counted() -> bool:
        return await members(stack, group) == count

    await until(f"{count} members of {group}", counted, deadline_s=_CHANGED_S, every_s=0.5)


async def test_a_loader_that_sleeps_in_mid_batch_is_replaced_and_what_it_does_late_changes_nothing(
    stack: Stack,
) -> None:
    """29: others have loaded its batch when it wakes; its rows, its count and its commit come too late."""
    run, before, sent = new_id(), await accepted(stack), 0

    async def send() -> None:
        nonlocal sent
        await produce(stack, *people(run, range(sent, sent + 60)))
        sent += 60

    async with (
        open_insert_faults(stack.environment("ingest-worker")) as faults,
        further_copy(stack, "ingest-worker", index=7, env=faults.environment()) as copy,
    ):
        await _group_has(stack, "ingest-records", 2)
        faults.delay()

        async def in_its_hands() -> bool:
            await send()
            return faults.arrived > 0

        await until("a batch in its hands", in_its_hands, deadline_s=_CHANGED_S, every_s=0.5)
        await stack.kill(copy, signal.SIGSTOP)
        await _group_has(stack, "ingest-records", 1)
        await all_durable(stack, deadline_s=90)
        faults.heal()
        await stack.kill(copy, signal.SIGCONT)
        await _group_has(stack, "ingest-records", 2)
        await send()
        await all_durable(stack, deadline_s=90)
    await all_shown(stack, run, sent)
    assert await accepted(stack) == before + sent
    assert await committed_past_effect(stack) == {}


async def test_a_logger_that_sleeps_is_replaced_and_every_request_is_in_the_log_once(
    stack: Stack, payer: httpx.AsyncClient
) -> None:
    """29, for the log: what it had fetched is written by others before it wakes."""
    ids: list[str] = []

    async def ask() -> None:
        answers = await asyncio.gather(*(payer.get("/v1/me") for _ in range(30)))
        ids.extend(answer.headers["x-request-id"] for answer in answers)

    async with further_copy(stack, "audit-logger", index=7) as copy:
        await _group_has(stack, "audit-logger", 2)
        await ask()
        await stack.kill(copy, signal.SIGSTOP)
        await ask()
        await _group_has(stack, "audit-logger", 1)
        await ask()
        await all_logged_once(stack, ids, deadline_s=90)
        await stack.kill(copy, signal.SIGCONT)
        await ask()
        await _group_has(stack, "audit-logger", 2)
        await ask()
        await all_logged_once(stack, ids, deadline_s=90)
    assert await committed_past_effect(stack) == {}
