"""`make soak`: a mixed load with random faults, then the count. SOAK_MINUTES (30), SOAK_SEED (random, printed)."""

import asyncio
import os
import secrets
import statistics
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil

from bigdata_client import AsyncClient, Upload
from devstack.reconcile import ask, books_of_stack, drifts
from devstack.stack import Stack
from soak import evidence, faults, load
from soak.schedule import Planned, schedule
from support.invariants import broken_invariants
from support.polling import until
from support.stack import running_stack
from support.uploads import select

_SETTLED_S = 300.0


async def soak(minutes: float, seed: int) -> dict[str, Any]:
    """The figures of one run, on a stack of its own."""
    _say(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g}")
    account = load.Account()
    async with running_stack() as stack:
        async with load.running(stack, seed, account):
            survived, early_mb = await _break_things(stack, schedule(seed, minutes), minutes)
        _say("the load has ended; waiting for everything that was accepted")
        uploads = await _ended(stack, account)
        lost, twice = await _rows(stack, account, uploads)
        broken = await broken_invariants(stack)
        drifted = drifts(ask(books_of_stack(stack)))
        late_mb = _memory_mb(stack)
    times = sorted(one.well_again_s for one in survived if one.well_again_s is not None)
    return {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "broker": os.environ.get("KAFKA", "local"),
        "seed": str(seed),
        "minutes": minutes,
        "faults survived": f"{len(times)} of {len(survived)}",
        "faults": [f"{one.planned.fault} at {one.planned.at_s} s: well after {one.well_again_s} s" for one in survived],
        "requests answered": account.answers["answered"],
        "requests refused or unanswered": {code: n for code, n in account.answers.items() if code != "answered"},
        "files loaded": len(uploads),
        "files in doubt": account.files_unsure,
        "rows sent in files": sum((one.rows.total or 0) for one in uploads.values()),
        "rows sent as records": sum(account.records.values()),
        "rows lost": lost,
        "rows twice": twice,
        "credits drift": len(drifted),
        "invariants broken": broken,
        "recovery p50 s": round(statistics.median(times), 2) if times else None,
        "recovery p95 s": times[min(len(times) - 1, int(len(times) * 0.95))] if times else None,
        "memory after a fifth MB": early_mb,
        "memory at the end MB": late_mb,
    }


async def _break_things(stack: Stack, plan: list[Planned], minutes: float) -> tuple[list[faults.Survived], int]:
    began, survived, early_mb = time.monotonic(), list[faults.Survived](), 0
    for planned in plan:
        await asyncio.sleep(max(0.0, planned.at_s - (time.monotonic() - began)))
        if not early_mb and time.monotonic() - began > minutes * 12:
            early_mb = _memory_mb(stack)
        survived.append(await faults.make(planned, stack))
        _say(
            f"{planned.at_s:7.1f} s  {planned.fault} for {planned.lasts_s} s: well after {survived[-1].well_again_s} s"
        )
    await asyncio.sleep(max(0.0, minutes * 60 - (time.monotonic() - began)))
    return survived, early_mb


async def _ended(stack: Stack, account: load.Account) -> Mapping[str, Upload]:
    async with AsyncClient(stack.url("gateway"), stack.status().admin_key) as admin:
        return {one: await admin.wait_for_upload(one, deadline_s=_SETTLED_S) for one in account.files}


async def _rows(stack: Stack, account: load.Account, uploads: Mapping[str, Upload]) -> tuple[int, int]:
    """Rows that were accepted and are not shown, and rows that are shown more often than once."""
    expected = sum(account.files.values())
    accepted = sum(one.rows.accepted or 0 for one in uploads.values())

    async def records_shown() -> bool:
        return _records_shown(stack, account) >= sum(account.records.values())

    try:
        await until("every record to be shown", records_shown, deadline_s=_SETTLED_S, every_s=1)
    except AssertionError as late:
        _say(str(late))
    records = _records_shown(stack, account)
    ids = list(uploads)
    (visible,) = select(
        stack,
        "SELECT count(), uniqExact(email) FROM bigdata.people FINAL WHERE upload_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    lost = max(0, expected - accepted) + max(0, accepted - int(visible[1]))
    lost += max(0, sum(account.records.values()) - records)
    twice = int(visible[0]) - int(visible[1]) + max(0, records - sum(account.records.values()))
    return lost, twice


def _records_shown(stack: Stack, account: load.Account) -> int:
    sources = [f"run-{run}" for run in account.records]
    query = "SELECT count() FROM bigdata.people FINAL WHERE source IN {sources:Array(String)}"
    return int(select(stack, query, {"sources": sources})[0][0])


def _memory_mb(stack: Stack) -> int:
    """Of our four services together; servers keep what they cache."""
    services = ("gateway", "credits", "ingest-worker", "audit-logger")
    running = [one.pid for name, one in stack.status().processes.items() if name in services and one.state == "running"]
    return sum(psutil.Process(pid).memory_info().rss for pid in running if psutil.pid_exists(pid)) >> 20


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    seed = int(os.environ.get("SOAK_SEED") or secrets.randbelow(1_000_000))
    figures = asyncio.run(soak(minutes, seed))
    evidence.write(f"soak-{figures['broker']}", figures)
    for name, value in figures.items():
        _say(f"{name}: {value}")
    bad = [name for name in ("rows lost", "rows twice", "credits drift", "invariants broken") if figures[name]]
    _say(f"FAILED: {', '.join(bad)}" if bad else "everything held")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
