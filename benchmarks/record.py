"""benchmarks/results.json keeps the last figure of each kind, RESULTS.md shows them (`--record`)."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import sizing
from benchmarks.report import Figure

_FOLDER = Path(__file__).parent
_KEPT = _FOLDER / "results.json"
_SHOWN = _FOLDER / "RESULTS.md"
_HEAD = """# Results

Written by `python -m benchmarks --record`. 2 cores, 24 GiB, shared hardware: compare ratios, not figures. "load" is the
machine's load average when the figure was taken; the benchmark itself makes 2 to 4 of it.
"""


def record(figures: Sequence[Figure]) -> None:
    kept = json.loads(_KEPT.read_text(encoding="utf-8")) if _KEPT.exists() else {}
    today, load = datetime.now(UTC).date().isoformat(), round(os.getloadavg()[0], 1)
    for one in figures:
        kept[f"{one.number} {one.what}"] = one.as_json() | {"date": today, "load": load}
    _KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    _SHOWN.write_text(page(kept), encoding="utf-8")
    sizing.write()


def page(kept: dict[str, dict[str, object]]) -> str:
    rows = [_row(one) for _, one in sorted(kept.items())]
    columns = "| | what | unit | baseline | ours | ratio | to reach | reached | date | load |\n" + "|---" * 10 + "|\n"
    return f"{_HEAD}\n{columns}" + "\n".join(rows) + "\n"


def _row(one: dict[str, object]) -> str:
    reached = "yes" if one["reached"] else "**no**"
    cells = (one["number"], one["what"], one["unit"], f"{one['baseline']:,.6g}", f"{one['ours']:,.6g}")
    return f"| {' | '.join(map(str, (*cells, one['ratio'], one['to_reach'], reached, one['date'], one['load'])))} |"
