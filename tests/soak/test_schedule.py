"""The scheduler of `make soak`: the same seed, the same faults."""

import json
from pathlib import Path

from soak.evidence import page
from soak.schedule import FAULTS, schedule


def test_a_seed_decides_every_fault() -> None:
    assert schedule(7, 30) == schedule(7, 30)
    assert schedule(7, 30) != schedule(8, 30)


def test_every_fault_comes_and_they_do_not_overlap() -> None:
    planned = schedule(7, 30)
    assert {one.fault for one in planned} == set(FAULTS)
    ends = [one.at_s + one.lasts_s for one in planned]
    assert all(end < following.at_s for end, following in zip(ends, planned[1:], strict=False))
    assert schedule(7, 0.2) == []


def test_the_page_is_made_of_the_runs(tmp_path: Path) -> None:
    (tmp_path / "soak-local.json").write_text(json.dumps({"seed": 7, "rows lost": 0, "invariants broken": {}}))
    shown = page(tmp_path)
    assert "| rows lost | 0 |" in shown
    assert "| invariants broken | none |" in shown
