"""The sizing tables of docs/operations.md, from benchmarks/results.json; `python -m benchmarks.sizing` writes them.

A figure that is not recorded yet is an estimate, and the table says so.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_KEPT = Path(__file__).parent / "results.json"
_PAGE = Path(__file__).parent.parent / "docs" / "operations.md"
_BEGIN, _END = "<!-- sizing: made by python -m benchmarks.sizing -->\n", "<!-- end of sizing -->\n"

_CORES = 2  # of the machine that measured, the load's maker included
_BUSY = 0.6  # of a core that is planned with; the rest is for peaks and for one that dies
_CACHED = 0.5  # of the queries
_LOADS = (1_000, 10_000, 100_000)  # queries/s
_ROW_BYTES = 110  # of people.csv
_DAY_S = 86_400
_TB = 1_000_000_000_000


@dataclass(frozen=True)
class Need:
    """A figure by the start of its key in results.json, and what stands in for it until it is recorded."""

    key: str
    field: str
    estimate: float


NEEDS = {
    "uncached": Need("Q1 point lookup", "ours", 240),
    "lookups": Need("Q1 point lookup", "baseline", 365),
    "cached": Need("Q2 a kept answer, credits on", "ours", 1_300),
    "charges": Need("C2 reserve + capture", "ours", 11_800),
    "events": Need("A1 ", "ours", 30_000),
    "rows": Need("I1 ", "ours", 300_000),
}


@dataclass(frozen=True)
class Costs:
    """Seconds of one core per operation, the whole machine counted against it: never too little."""

    gateway_uncached: float
    gateway_cached: float
    clickhouse: float
    credits: float
    audit: float
    row: float


def costs(kept: Mapping[str, Mapping[str, object]]) -> Costs:
    found = {name: _figure(kept, need)[0] for name, need in NEEDS.items()}
    lookup = _CORES / found["lookups"]
    return Costs(
        gateway_uncached=max(_CORES / found["uncached"] - lookup, 0.0005),
        gateway_cached=_CORES / found["cached"],
        clickhouse=lookup,
        credits=_CORES / found["charges"],
        audit=_CORES / found["events"],
        row=_CORES / found["rows"],
    )


def tables(kept: Mapping[str, Mapping[str, object]]) -> str:
    cost = costs(kept)
    lines = ["| measured | figure | from |", "|---|---|---|"]
    for need in NEEDS.values():
        value, source = _figure(kept, need)
        what = "ClickHouse alone, point lookups/s" if need.field == "baseline" else _WHAT[need.key]
        lines.append(f"| {what} | {value:,.0f} | {source} |")
    lines += [
        "",
        "| queries/s | gateways | cores: ClickHouse | credits and Postgres | audit-logger | saturates first |",
    ]
    lines.append("|---|---|---|---|---|---|")
    lines += [_load_row(load, cost) for load in _LOADS]
    rows_s = _TB / _ROW_BYTES / _DAY_S
    cores = _cores(rows_s * cost.row)
    lines += ["", f"1 TB of CSV a day is {rows_s:,.0f} rows/s: {cores} cores, shared by ingest-workers and ClickHouse."]
    return "\n".join(lines) + "\n"


_WHAT = {
    "Q1 point lookup": "uncached point lookups/s through the gateway",
    "Q2 a kept answer, credits on": "kept answers/s, charged",
    "C2 reserve + capture": "charges/s, merged",
    "A1 ": "events/s into the log",
    "I1 ": "rows/s of CSV",
}


def _load_row(load: int, cost: Costs) -> str:
    uncached, cached = load * (1 - _CACHED), load * _CACHED
    cores = {
        "gateways": uncached * cost.gateway_uncached + cached * cost.gateway_cached,
        "ClickHouse": uncached * cost.clickhouse,
        "credits and Postgres": load * cost.credits,
        "audit-logger": load * cost.audit,
    }
    cells = [str(_cores(one)) for one in cores.values()]
    cells[0] = str(max(2, _cores(cores["gateways"])))
    return f"| {load:,} | {' | '.join(cells)} | {max(cores, key=lambda name: cores[name])} |"


def _cores(busy: float) -> int:
    return max(1, math.ceil(busy / _BUSY))


def _figure(kept: Mapping[str, Mapping[str, object]], need: Need) -> tuple[float, str]:
    for key in sorted(kept):
        if key.startswith(need.key):
            one = kept[key]
            return float(str(one[need.field])), f"{one['number']}, {one['date']}"
    return need.estimate, f"an estimate until {need.key.split(' ', maxsplit=1)[0]} is recorded"


def recorded() -> dict[str, dict[str, object]]:
    if not _KEPT.exists():
        return {}
    kept: dict[str, dict[str, object]] = json.loads(_KEPT.read_text(encoding="utf-8"))
    return kept


def page(text: str, kept: Mapping[str, Mapping[str, object]]) -> str:
    """The page with its tables made anew."""
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}{tables(kept)}{_END}{after}"


def write() -> None:
    _PAGE.write_text(page(_PAGE.read_text(encoding="utf-8"), recorded()), encoding="utf-8")


if __name__ == "__main__":
    write()
