"""Invariant I7, seen from outside: how often a key with a limit is let in within one minute."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from devstack.stack import Stack

LIMIT = 30
# Once by each of two gateways, whatever becomes of Redis, and once more by one that was killed and counts anew.
TIMES_MAX = 3
_MINUTE_S = 60
_PAUSE_S = 0.4


@dataclass
class Admission:
    """`minutes`: of those sent and answered in the same minute, how many were let in."""

    minutes: Counter[int] = field(default_factory=Counter)
    refused: int = 0

    def over(self, times: float) -> int:
        return sum(admitted > times * LIMIT for admitted in self.minutes.values())


async def limited_key(stack: Stack, key: str) -> str:
    async with httpx.AsyncClient(base_url=stack.url("gateway"), headers={"x-api-key": key}, timeout=30) as client:
        made = await client.post("/v1/keys", json={"name": "limited", "requests_per_minute": LIMIT})
    return str(made.raise_for_status().json()["api_key"])


async def push(urls: list[str], key: str, admission: Admission, stopping: asyncio.Event) -> None:
    """Asks all gateways in turn, far more often than it may."""
    async with httpx.AsyncClient(headers={"x-api-key": key}, timeout=10) as client:
        while not stopping.is_set():
            for url in urls:
                minute = int(time.time() // _MINUTE_S)
                try:
                    status = (await client.get(f"{url}/v1/me")).status_code
                except httpx.HTTPError:
                    continue
                admission.refused += status == httpx.codes.TOO_MANY_REQUESTS
                same = minute == int(time.time() // _MINUTE_S)
                admission.minutes[minute] += same and status == httpx.codes.OK
            await asyncio.sleep(_PAUSE_S)
