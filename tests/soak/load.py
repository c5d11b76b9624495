"""A mixed load of queries, exports, files, undos and records, with an account of what must be there at the end."""

import asyncio
import io
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiokafka.errors import KafkaError

from bigdata_client import ApiError, AsyncClient, BigDataError, Retries
from common.ids import new_id
from devstack.stack import Stack
from soak.admission import Admission, limited_key, push
from support.records import people, produce

_ASKERS = 3
_CREDITS = 10_000_000
_FILE_ROWS, _BAD_EVERY, _UNDONE_EVERY = 400, 50, 10
_RECORDS = 40
_PAUSE_S = {"ask": 0.1, "export": 3.0, "upload": 2.0, "records": 1.5}
# Longer than any fault lasts: what a patient client gets in the end.
_PATIENT = Retries(attempts_max=14, first_wait_s=0.25, wait_s_max=10)
_FINISHED_S = 300.0
_QUERIES: tuple[dict[str, Any], ...] = (
    {"dataset": "people", "filters": {"country": "IN"}, "limit": 20},
    {"dataset": "people", "fuzzy": {"first_name": {"query": "nn"}}, "select": ["first_name", "city"], "limit": 50},
    {"dataset": "flights", "sort": "distance DESC", "limit": 5},
    {"dataset": "people", "aggregate": {"group_by": ["country"], "metrics": {"n": "count()"}}},
)
_EXPORT = {"dataset": "people", "select": ["email", "first_name"], "limit": 20_000, "max_credits": 50}


@dataclass
class Account:
    """`answers`: by code. `files`: upload id and how many of its rows fit. `records`: run and number.

    `request_ids`: of everything that a gateway answered, whatever it said. `broke_off`: parts of the load that failed.
    """

    answers: Counter[str] = field(default_factory=Counter)
    request_ids: set[str] = field(default_factory=set)
    files: dict[str, int] = field(default_factory=dict)
    files_unsure: int = 0
    undone: set[str] = field(default_factory=set)
    records: dict[str, int] = field(default_factory=dict)
    broke_off: list[str] = field(default_factory=list)
    admission: Admission = field(default_factory=Admission)

    def watch(self, client: AsyncClient) -> AsyncClient:
        async def remember(response: httpx.Response) -> None:
            # It is answered when its last byte is there: a gateway may be killed in the midst. Streams are left out.
            if "x-request-id" in response.headers and "content-length" in response.headers:
                await response.aread()
                self.request_ids.add(response.headers["x-request-id"])

        client._http.event_hooks["response"].append(remember)  # the library has no use for it
        return client


@dataclass
class Load:
    stack: Stack
    account: Account
    gateways: tuple[str, ...]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def client(self, key: str, gateway: str = "gateway") -> AsyncClient:
        return self.account.watch(AsyncClient(self.stack.url(gateway), key, retries=_PATIENT, timeout_s=20))

    async def pause(self, kind: str) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), _PAUSE_S[kind])


@asynccontextmanager
async def running(stack: Stack, seed: int, account: Account, gateways: tuple[str, ...]) -> AsyncIterator[None]:
    """Inside the block the load runs; at its end everybody finishes what they are at."""
    load = Load(stack, account, gateways)
    async with load.client(stack.status().admin_key) as admin:
        keys = [await _user(admin) for _ in range(_ASKERS)]
        limited = await limited_key(stack, keys[0])
        urls = [stack.url(name) for name in gateways]
        work = [
            *(_ask(load, key, gateways[n % len(gateways)], random.Random(seed + n)) for n, key in enumerate(keys)),  # noqa: S311
            _export(load, keys[0]),
            _upload(load, admin),
            _records(load),
            push(urls, limited, account.admission, load.stopping),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            yield
        finally:
            load.stopping.set()
            _, late = await asyncio.wait(tasks, timeout=_FINISHED_S)
            for task in late:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            account.broke_off += [repr(fault) for fault in ended if fault is not None]


async def _user(admin: AsyncClient) -> str:
    return (await admin.create_user(f"soak-{new_id()}", credits=_CREDITS, plan="unlimited")).api_key


async def _count(account: Account, answer: Callable[[], Awaitable[object]]) -> bool:
    try:
        await answer()
    except ApiError as refused:
        account.answers[refused.code] += 1
    except BigDataError as fault:
        account.answers[type(fault).__name__] += 1
    else:
        account.answers["answered"] += 1
        return True
    return False


async def _ask(load: Load, key: str, gateway: str, chance: random.Random) -> None:
    async with load.client(key, gateway) as client:
        while not load.stopping.is_set():
            body = {**chance.choice(_QUERIES), "max_credits": 20}
            await _count(load.account, lambda body=body: client.query(body))  # type: ignore[misc]
            await load.pause("ask")


async def _export(load: Load, key: str) -> None:
    async with load.client(key) as client:
        while not load.stopping.is_set():
            await _count(load.account, lambda: client.query_to(io.BytesIO(), _EXPORT))
            await load.pause("export")


async def _upload(load: Load, admin: AsyncClient) -> None:
    account, number = load.account, 0
    while not load.stopping.is_set():
        number += 1
        mark = f"soak-{new_id()}"
        rows = [
            f"{mark}-{n}@example.com,Ann,{n % 90}" if n % _BAD_EVERY else "no address,Bob,1" for n in range(_FILE_ROWS)
        ]
        data = "\n".join(["email,first_name,age", *rows]).encode()
        try:
            sent = await admin.upload(data, "people", filename=f"{mark}.csv")
            upload_id = sent.duplicate_of or sent.upload_id
            if number % _UNDONE_EVERY == 0:
                await _undo(account, admin, upload_id)
            else:
                account.files[upload_id] = sum("@" in row for row in rows)
        except (BigDataError, TimeoutError):
            # Whether it is loaded is not known: it is counted by nobody, and must be whole or not there.
            account.files_unsure += 1
        await load.pause("upload")


async def _undo(account: Account, admin: AsyncClient, upload_id: str) -> None:
    await admin.wait_for_upload(upload_id, deadline_s=_FINISHED_S)
    await admin.undo_upload(upload_id)
    account.undone.add(upload_id)


async def _records(load: Load) -> None:
    while not load.stopping.is_set():
        run = str(new_id())
        while True:
            # Sent again they are the same identities: a broker that was away costs nothing but time.
            with suppress(KafkaError, OSError):
                await produce(load.stack, *people(run, range(_RECORDS)))
                break
            await load.pause("records")
        load.account.records[run] = _RECORDS
        await load.pause("records")
