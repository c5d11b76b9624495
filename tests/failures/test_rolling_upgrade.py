"""Every process is replaced, one by one, while clients query and send files: nobody notices."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from common.ids import new_id
from devstack.stack import Stack
from support import uploads
from support.client import Answered, create_user
from support.polling import until
from support.rolling import Fleet, open_fleet

QUERIERS = 4
CREDITS = 100_000


@pytest_asyncio.fixture
async def fleet(stack: Stack) -> AsyncIterator[Fleet]:
    async with open_fleet(stack) as fleet:
        yield fleet


class Load:
    """Clients that do what docs/operations.md asks of them: repeat a broken connection with the same key."""

    def __init__(self, fleet: Fleet, key: str, admin_key: str, answered: Answered) -> None:
        self.answers: Counter[int] = Counter()
        self.keys: list[str] = []
        self.broken = 0
        self.sent: list[UUID] = []
        self._fleet, self._key, self._admin_key, self._answered = fleet, key, admin_key, answered
        self._ends = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(QUERIERS):
                group.create_task(self._query())
            group.create_task(self._upload())

    def stop(self) -> None:
        self._ends.set()

    async def _query(self) -> None:
        async with httpx.AsyncClient(base_url=self._fleet.url, headers={"x-api-key": self._key}, timeout=30) as client:
            while not self._ends.is_set():
                key = str(new_id())
                body = {"filters": {"email": f"{key}@example.com"}}  # nobody's: no kept answer serves it
                await self._until_answered(client, "/v1/query", json=body, headers={"idempotency-key": key})
                self.keys.append(key)

    async def _upload(self) -> None:
        headers = {"x-api-key": self._admin_key}
        async with httpx.AsyncClient(base_url=self._fleet.url, headers=headers, timeout=30) as client:
            while not self._ends.is_set():
                rows = "".join(f"{new_id()}@example.com,x\n" for _ in range(100))
                path = "/v1/uploads?dataset=people&filename=rolling.csv"
                answer = await self._until_answered(client, path, content=f"email,city\n{rows}".encode())
                self.sent.append(UUID(answer.json()["upload_id"]))

    async def _until_answered(
        self,
        client: httpx.AsyncClient,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        while True:
            try:
                answer = await client.post(path, json=json, content=content, headers=headers)
            except httpx.TransportError:
                self.broken += 1
                continue
            if answer.status_code == 409:  # the first try of a key whose connection broke is still running
                await asyncio.sleep(0.2)
                continue
            self.answers[answer.status_code] += 1
            self._answered.add(answer.headers["x-request-id"])
            return answer


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_nobody_notices_that_every_process_is_replaced(
    fleet: Fleet, admin: httpx.AsyncClient, answered: Answered
) -> None:
    """I1 to I4 are checked after the test, for every request that was answered meanwhile."""
    user = await create_user(admin, f"rolling-{new_id()}", credits=CREDITS, plan="unlimited")
    load = Load(fleet, user["api_key"], fleet.stack.status().admin_key, answered)
    running = asyncio.create_task(load.run())
    try:
        replaced = await asyncio.wait_for(fleet.replace_all(), 300)
    finally:
        load.stop()
        await asyncio.wait_for(running, 120)
    assert replaced == 6
    assert set(load.answers) == {200, 202}, f"{load.answers}, {load.broken} broken connections"
    assert load.answers[200] > replaced

    async def charged() -> bool:
        answer = await admin.get(f"/v1/admin/user/{user['user']['id']}")
        return float(answer.json()["credits"]) == CREDITS - len(load.keys)

    await until("every query to be charged exactly once", charged, deadline_s=60)
    for upload_id in load.sent:
        assert (await uploads.ended(fleet.stack, upload_id, deadline_s=90))["state"] == "completed"
