"""A process dies around a charge: whatever was not decided cost nothing, whatever was decided is charged once."""

from contextlib import suppress

import httpx
import pytest

from devstack.stack import Stack
from support.accounts import Account, answered_in_the_end, never_asked, some_key
from support.polling import until
from support.proxied import Proxied
from support.stack import further_copy


async def test_a_gateway_that_dies_before_the_query_has_charged_nothing(stack: Stack, account: Account) -> None:
    """1: its hold stays until its deadline, and gives everything back then; the key is free again."""
    key = some_key()
    await _die_at("gateway.reserved", stack, account, key)
    assert await account.balance() == (10, 1)
    async with account.client() as client:
        busy = await client.post("/v1/query", json=never_asked(key), headers=key)
        assert (busy.status_code, busy.json()["code"]) == (409, "idempotency_in_progress")
        assert int(busy.headers["Retry-After"]) >= 1
        await account.let_holds_run_out()
        await account.settled_at(10)
        assert (await account.holds(), await account.charges()) == (["expired"], 0)
        await answered_in_the_end(client, key)
    await account.settled_at(9)
    assert await account.charges() == 1


@pytest.mark.parametrize("place", ["gateway.queried", "gateway.captured"])
async def test_a_gateway_that_dies_between_query_and_record_has_charged_nothing(
    stack: Stack, account: Account, place: str
) -> None:
    """2: ClickHouse has answered, the client has not been: the rule is that it pays nothing."""
    key = some_key()
    await _die_at(place, stack, account, key)
    await account.let_holds_run_out()
    await account.settled_at(10)
    async with account.client() as client:
        await answered_in_the_end(client, key)
    await account.settled_at(9)
    assert (await account.holds(), await account.charges()) == (["expired", "captured"], 1)


async def _die_at(place: str, stack: Stack, account: Account, key: dict[str, str]) -> None:
    async with further_copy(stack, "gateway", env={"FAULTPOINTS": place}) as copy, account.client(copy) as client:
        with pytest.raises(httpx.TransportError):
            await client.post("/v1/query", json=never_asked(key), headers=key)


@pytest.mark.parametrize("place", ["gateway.settled", "gateway.audited"])
async def test_a_gateway_that_dies_before_it_notes_an_acknowledgement_has_charged_once(
    stack: Stack, account: Account, place: str
) -> None:
    """2: the record is sent again by the next process; credits and the log know it already."""
    key = some_key()
    async with further_copy(stack, "gateway", env={"FAULTPOINTS": place}) as copy, account.client(copy) as client:
        with suppress(httpx.TransportError):  # it may die before or after the last byte
            await client.post("/v1/query", json=never_asked(key), headers=key)
        await _death_of(copy, stack)
    async with further_copy(stack, "gateway") as copy, account.client(copy) as client:
        await account.settled_at(9)
        stored = await answered_in_the_end(client, key)
        assert stored.json()["metadata"]["credits_remaining"] == 9
    assert (await account.balance(), await account.charges()) == ((9, 0), 1)


@pytest.mark.parametrize("place", ["credits.before_commit", "credits.after_commit"])
async def test_credits_that_die_while_they_hold_have_charged_nothing(
    stack: Stack, account: Account, proxied: Proxied, place: str
) -> None:
    """3 and 4: the query is refused, and its key charges once when another process is asked again."""
    key = some_key()
    another = proxied.credits.target
    async with (
        account.client(proxied.gateway) as client,
        further_copy(stack, "credits", env={"FAULTPOINTS": place}) as copy,
    ):
        _move(proxied, ("127.0.0.1", stack.site.ports[copy]))
        refused = await client.post("/v1/query", json=never_asked(key), headers=key)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        await _death_of(copy, stack)
        assert await account.balance() == ((10, 0) if place == "credits.before_commit" else (10, 1))
        _move(proxied, another)
        answer = await answered_in_the_end(client, key)
    assert answer.json()["metadata"]["credits_remaining"] == 9
    await account.settled_at(9)
    assert await account.charges() == 1


@pytest.mark.parametrize("place", ["credits.before_commit", "credits.after_commit"])
async def test_credits_that_die_while_they_charge_have_charged_once(
    stack: Stack, account: Account, proxied: Proxied, place: str
) -> None:
    """3 and 4: the answer was given; its capture waits in the spool, and a repeat of the key gets the same bytes."""
    key = some_key()
    another = proxied.credits.target
    async with (
        account.client(proxied.gateway) as client,
        further_copy(stack, "credits", env={"FAULTPOINTS": f"{place}:2"}) as copy,
    ):
        _move(proxied, ("127.0.0.1", stack.site.ports[copy]))
        answer = await client.post("/v1/query", json=never_asked(key), headers=key)
        assert answer.status_code == 200, answer.text
        await _death_of(copy, stack)
        assert await account.balance() == ((10, 1) if place == "credits.before_commit" else (9, 0))
        _move(proxied, another)
        await account.settled_at(9)
        again = await answered_in_the_end(client, key)
    assert again.content == answer.content
    assert (await account.balance(), await account.charges()) == ((9, 0), 1)


def _move(proxied: Proxied, credits_at: tuple[str, int]) -> None:
    """The gateway's credits are another process from now on."""
    proxied.credits.target = credits_at
    proxied.credits.reset()


async def _death_of(name: str, stack: Stack) -> None:
    async def dead() -> bool:
        return stack.status().processes[name].state == "dead"

    await until(f"the death of {name}", dead)
