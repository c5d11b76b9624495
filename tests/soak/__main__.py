"""`make soak`: a mixed load with random faults, then the count.

SOAK_MINUTES (30), SOAK_SEED (random, printed; the same seed has the same faults again), KAFKA (local, or apache).
"""

import asyncio
import os
import secrets
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from devstack.stack import Stack
from soak import evidence, faults, load
from soak.admission import LIMIT, TIMES_MAX
from soak.count import Count, count
from soak.memory import Memory, measured
from soak.schedule import schedule
from support.stack import further_copy, running_stack

_QUIET_S = 10.0
# Never killed, so that what grows over the whole run is seen.
_SPARED = "gateway-2"


async def soak(minutes: float, seed: int, broker: str) -> dict[str, Any]:
    """The figures of one run, on a stack of its own."""
    _say(f"SOAK_SEED={seed} SOAK_MINUTES={minutes:g} KAFKA={broker}")
    account = load.Account()
    async with running_stack() as stack, further_copy(stack, "gateway") as spared:
        assert spared == _SPARED
        async with (
            measured(stack) as memory,
            load.running(stack, seed, account, ("gateway", spared)),
        ):
            survived, restarted = await _break_things(stack, seed, broker, minutes)
        _say("the load has ended; waiting for everything that was accepted")
        counted = await count(stack, account)
    _say(f"faults: {[one.planned.fault for one in survived]}")
    return _figures(account, counted, survived, memory, restarted) | {
        "when": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "broker": broker,
        "seed": str(seed),
        "minutes": minutes,
    }


async def _break_things(
    stack: Stack, seed: int, broker: str, minutes: float
) -> tuple[list[faults.Survived], Counter[str]]:
    began, survived, restarted = time.monotonic(), list[faults.Survived](), Counter[str]()
    await asyncio.sleep(_QUIET_S)
    for planned in schedule(seed, broker):
        at_s = round(time.monotonic() - began, 1)
        if at_s > minutes * 60 - _QUIET_S:
            break
        survived.append(await faults.make(planned, stack, at_s, restarted))
        _say(f"{at_s:7.1f} s  {planned.fault} for {planned.lasts_s} s: {survived[-1].took}")
        await asyncio.sleep(planned.calm_s)
    return survived, restarted


def _figures(
    account: load.Account, counted: Count, survived: list[faults.Survived], memory: Memory, restarted: Counter[str]
) -> dict[str, Any]:
    well = [one for one in survived if one.took.all_s is not None]
    return {
        "faults survived": f"{len(well)} of {len(survived)}",
        "faults not survived": [one.planned.fault for one in survived if one.took.all_s is None],
        "requests answered": account.answers["answered"],
        "requests refused or unanswered": {code: n for code, n in account.answers.items() if code != "answered"},
        "answers whose log entry was looked for": len(account.request_ids),
        "load that broke off": account.broke_off,
        "files loaded": counted.loaded,
        "files failed": dict(counted.failed),
        "files undone": len(account.undone),
        "files in doubt": account.files_unsure,
        "rows sent in files": counted.rows_sent,
        "rows sent as records": sum(account.records.values()),
        "rows lost": counted.lost,
        "rows twice": counted.twice,
        "rows left by an undo": counted.left_by_undo,
        "credits drift": dict(counted.drifted),
        "invariants broken": dict(counted.broken),
        "minutes with more than the limit": account.admission.over(1),
        "minutes with more than the bound": account.admission.over(TIMES_MAX),
        "most admitted of a limit": f"{max(account.admission.minutes.values(), default=0)} of {LIMIT}",
        "refused by the limit": account.admission.refused,
        "restarted because dead or stuck": dict(restarted),
        "machine": memory.machine(),
        "recovery": evidence.recoveries(survived),
        "memory": {name: list(thirds) for name, thirds in memory.thirds().items()},
        "memory grown": {name: list(thirds) for name, thirds in memory.grown().items()},
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    minutes = float(os.environ.get("SOAK_MINUTES", "30"))
    seed = int(os.environ.get("SOAK_SEED") or secrets.randbelow(1_000_000))
    figures = asyncio.run(soak(minutes, seed, os.environ.get("KAFKA") or "local"))
    evidence.write(f"soak-{figures['broker']}", figures)
    for name, value in figures.items():
        _say(f"{name}: {value}")
    bad = [name for name in evidence.MUST_BE_NOTHING if figures[name]]
    _say(f"FAILED: {', '.join(bad)}" if bad else "everything held")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
