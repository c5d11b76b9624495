"""docs/evidence.md: tables made of what the runs wrote down, never by hand."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from soak.faults import Survived
from support.recovery import Recovery
from support.repository import ROOT

_FOLDER = ROOT / "docs" / "evidence"
_PAGE = ROOT / "docs" / "evidence.md"
_HEAD = """# Evidence

Written by `make soak` itself, from `docs/evidence/*.json`: one column for each run. A run asks, exports, uploads,
undoes and produces records while a seeded scheduler kills, freezes, stops and cuts parts of the stack; then it counts
in the stores. The same faults in the same order again: `SOAK_SEED` and `SOAK_MINUTES` of the table, and `KAFKA`, which
is `local` or `apache`. The local broker keeps no promise across `kill -9`; it is killed on Apache Kafka only.

"""
MUST_BE_NOTHING = (
    "faults not survived", "load that broke off", "files failed", "rows lost", "rows twice", "rows left by an undo",
    "credits drift", "invariants broken", "minutes with more than the bound", "memory grown",
)  # fmt: skip
_ROWS = (
    "when", "broker", "machine", "seed", "minutes", "faults survived", "faults not survived",
    "restarted because dead or stuck",
    "requests answered", "requests refused or unanswered", "answers whose log entry was looked for",
    "load that broke off", "files loaded", "files failed", "files undone", "files in doubt", "rows sent in files",
    "rows sent as records", "rows lost", "rows twice", "rows left by an undo",
    "credits drift", "invariants broken",
    "refused by the limit", "most admitted of a limit", "minutes with more than the limit",
    "minutes with more than the bound", "memory grown",
)  # fmt: skip
_RECOVERY = """
## Recovery: {name}

I8: seconds from the end of a fault, p50 / p95, until health says 200, until nothing waits in a topic that waited
then, and until no connection of Postgres is held from before, with the load going on. A part that was killed starts
first.

| fault | times | health | lag | pools | all |
|---|---|---|---|---|---|
"""
_MEMORY = """
## Memory: {name}

MB, median of the first and of the last third of the run. `gateway-2` is never killed.

| | first third | last third |
|---|---|---|
"""
_FOUND = """
## What the runs found

The runs named `before` are kept as they were: they failed, and what follows was mended because of them. All shared
two cores with other work, which the times of recovery show.

- A producer whose batch a broker refused was refused for ever after: log entries of a gateway stayed in its spool,
  chunks stayed unannounced, until the process was restarted (I4, drift, lag that did not end). It goes on under a new
  producer id now: `tests/contracts/test_producer.py`.
- `GET /v1/admin/topics` was empty on Apache Kafka: found by `make conformance`, now asked by name.
- On Apache Kafka the rows of five files, 1,960 in all, were counted as lost. The count looked under the id of a second
  sending after a 503, and now follows it to the upload that has the rows. That this is all there was to it is likely,
  not proven: the stack was gone when it was asked.
- One answer of 3,600 was not in the log in the run that followed. It was counted when its headers had come, and a
  gateway is killed in mid-answer; now an answer counts when it is whole. Likely, not proven.
- On the local broker 40 records, sent in one go and acknowledged, were not shown, in two runs; in another two of 22,436
  answers were charged and are not in the log. All had been acknowledged within half a second of the moment at which the
  broker was stopped, and its topics did not have them: after SIGTERM the local broker acknowledges for a moment what it
  no longer writes (eight producers, six of eight stops). The devstack tells it to stop its service first now, and of
  eight stops none loses anything: `tests/contracts/test_broker_stop.py`. The local run shown here was made before that,
  without stops of the broker; Apache Kafka was stopped and killed all the time.
"""


def write(name: str, figures: dict[str, Any]) -> None:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
    (_FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    _PAGE.write_text(page(_FOLDER), encoding="utf-8")


def page(folder: Path) -> str:
    runs = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("soak-*.json"))]
    head = "| | " + " | ".join(name for name, _ in runs) + " |\n|---|" + "---|" * len(runs) + "\n"
    rows = [f"| {row} | " + " | ".join(_shown(run.get(row)) for _, run in runs) + " |\n" for row in _ROWS]
    return _HEAD + head + "".join(rows) + "".join(_details(*run) for run in runs) + _FOUND


def recoveries(survived: Iterable[Survived]) -> dict[str, dict[str, Any]]:
    """By fault, and of all: how often, and p50 and p95 of each part of the recovery."""
    by_fault: dict[str, list[Recovery]] = defaultdict(list)
    for one in survived:
        by_fault[one.planned.fault].append(one.took)
        by_fault["all faults"].append(one.took)
    return {fault: _percentiles(took) for fault, took in sorted(by_fault.items(), key=lambda item: item[0])}


def _percentiles(took: list[Recovery]) -> dict[str, Any]:
    parts: Mapping[str, Callable[[Recovery], float | None]] = {
        "health": lambda one: one.health_s,
        "lag": lambda one: one.lag_s,
        "pools": lambda one: one.pools_s,
        "all": lambda one: one.all_s,
    }
    return {"times": len(took)} | {name: _p50_p95([part(one) for one in took]) for name, part in parts.items()}


def _p50_p95(seconds: list[float | None]) -> list[float] | None:
    known = sorted(one for one in seconds if one is not None)
    return [round(statistics.median(known), 2), known[math.ceil(len(known) * 0.95) - 1]] if known else None


def _details(name: str, run: Mapping[str, Any]) -> str:
    parts = ("health", "lag", "pools", "all")
    times = [
        f"| {fault} | {one['times']} | " + " | ".join(_pair(one[part]) for part in parts) + " |\n"
        for fault, one in run.get("recovery", {}).items()
    ]
    sizes = [f"| {name} | {first:,} | {last:,} |\n" for name, (first, last) in run.get("memory", {}).items()]
    return "".join([_RECOVERY.format(name=name), *times, _MEMORY.format(name=name), *sizes])


def _pair(seconds: list[float] | None) -> str:
    return "never" if seconds is None else f"{seconds[0]:g} / {seconds[1]:g}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
