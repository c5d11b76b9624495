"""docs/evidence.md: a table made of what the runs wrote down, never by hand."""

import json
from pathlib import Path
from typing import Any

from support.repository import ROOT

_FOLDER = ROOT / "docs" / "evidence"
_PAGE = ROOT / "docs" / "evidence.md"
_HEAD = """# Evidence

Written by `make soak` itself, from `docs/evidence/*.json`: one column for each run. A run asks, uploads and produces
records while a seeded scheduler kills, freezes and cuts parts of the stack; then it counts. `SOAK_SEED` has the same
faults again.

"""
_ROWS = (
    "when", "broker", "seed", "minutes", "faults survived", "requests answered", "requests refused or unanswered",
    "files loaded", "rows sent in files", "rows sent as records", "rows lost", "rows twice", "credits drift",
    "invariants broken", "recovery p50 s", "recovery p95 s", "memory at the end MB", "memory after a fifth MB",
)  # fmt: skip


def write(name: str, figures: dict[str, Any]) -> None:
    _FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
    (_FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    _PAGE.write_text(page(_FOLDER), encoding="utf-8")


def page(folder: Path) -> str:
    runs = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("soak-*.json"))]
    head = "| | " + " | ".join(name for name, _ in runs) + " |\n|---|" + "---|" * len(runs) + "\n"
    rows = [f"| {row} | " + " | ".join(_shown(run.get(row)) for _, run in runs) + " |\n" for row in _ROWS]
    return _HEAD + head + "".join(rows)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {count}" for name, count in value.items()) or "none"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
