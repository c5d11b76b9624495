"""A mixed load of queries, files and records, with an account of what must be there at the end."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bigdata_client import ApiError, AsyncClient, BigDataError, Retries
from common.ids import new_id
from devstack.stack import Stack
from support.records import people, produce

_ASKERS = 3
_CREDITS = 1_000_000
_FILE_ROWS, _BAD_EVERY = 400, 50
_RECORDS = 40
_PAUSE_S = {"ask": 0.1, "upload": 2.0, "records": 1.5}
# Longer than any fault lasts: what a patient client gets in the end.
_PATIENT = Retries(attempts_max=12, first_wait_s=0.25, wait_s_max=10)
_QUERIES: tuple[dict[str, Any], ...] = (
    {"dataset": "people", "filters": {"country": "IN"}, "limit": 20},
    {"dataset": "people", "fuzzy": {"first_name": {"query": "nn"}}, "select": ["first_name", "city"], "limit": 50},
    {"dataset": "flights", "sort": "distance DESC", "limit": 5},
    {"dataset": "people", "aggregate": {"group_by": ["country"], "metrics": {"n": "count()"}}},
)


@dataclass
class Account:
    """`answers`: by code. `files`: upload id and how many of its rows fit. `records`: run and number."""

    answers: Counter[str] = field(default_factory=Counter)
    files: dict[str, int] = field(default_factory=dict)
    files_unsure: int = 0
    records: dict[str, int] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)


@asynccontextmanager
async def running(stack: Stack, seed: int, account: Account) -> AsyncIterator[None]:
    """Inside the block the load runs; at its end everybody finishes what they are at."""
    stopping = asyncio.Event()
    async with AsyncClient(stack.url("gateway"), stack.status().admin_key, retries=_PATIENT, timeout_s=20) as admin:
        keys = [await _user(admin, account) for _ in range(_ASKERS)]
        work = [_ask(stack, key, random.Random(seed + n), account, stopping) for n, key in enumerate(keys)]  # noqa: S311
        tasks = [
            asyncio.create_task(one)
            for one in (*work, _upload(admin, account, stopping), _records(stack, account, stopping))
        ]
        try:
            yield
        finally:
            stopping.set()
            await asyncio.wait_for(asyncio.gather(*tasks), timeout=180)


async def _user(admin: AsyncClient, account: Account) -> str:
    created = await admin.create_user(f"soak-{new_id()}", credits=_CREDITS, plan="unlimited")
    account.users.append(created.user.id)
    return created.api_key


async def _ask(stack: Stack, key: str, chance: random.Random, account: Account, stopping: asyncio.Event) -> None:
    async with AsyncClient(stack.url("gateway"), key, retries=_PATIENT, timeout_s=20) as client:
        while not stopping.is_set():
            try:
                await client.query({**chance.choice(_QUERIES), "max_credits": 20})
                account.answers["answered"] += 1
            except ApiError as refused:
                account.answers[refused.code] += 1
            except BigDataError as fault:
                account.answers[type(fault).__name__] += 1
            await _pause(stopping, _PAUSE_S["ask"])


async def _upload(admin: AsyncClient, account: Account, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        mark = f"soak-{new_id()}"
        rows = [
            f"{mark}-{n}@example.com,Ann,{n % 90}" if n % _BAD_EVERY else "no address,Bob,1" for n in range(_FILE_ROWS)
        ]
        data = "\n".join(["email,first_name,age", *rows]).encode()
        try:
            sent = await admin.upload(data, "people", filename=f"{mark}.csv")
            account.files[sent.duplicate_of or sent.upload_id] = sum("@" in row for row in rows)
        except BigDataError:
            # Whether it is loaded is not known: it is counted by nobody, and must be whole or not there.
            account.files_unsure += 1
        await _pause(stopping, _PAUSE_S["upload"])


async def _records(stack: Stack, account: Account, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        run = str(new_id())
        await produce(stack, *people(run, range(_RECORDS)))
        account.records[run] = _RECORDS
        await _pause(stopping, _PAUSE_S["records"])


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
