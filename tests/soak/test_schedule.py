"""The scheduler of `make soak`: the same seed, the same faults."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from soak.evidence import page, recoveries
from soak.faults import Survived
from soak.schedule import FAULTS, Planned, schedule
from support.recovery import Recovery


def test_a_seed_decides_every_fault() -> None:
    assert list(islice(schedule(7), 100)) == list(islice(schedule(7), 100))
    assert list(islice(schedule(7), 100)) != list(islice(schedule(8), 100))


@pytest.mark.parametrize("broker", FAULTS)
def test_every_fault_comes_before_any_comes_again(broker: str) -> None:
    rounds = 3
    planned = list(islice(schedule(7, broker), rounds * len(FAULTS[broker])))
    assert Counter(one.fault for one in planned) == dict.fromkeys(FAULTS[broker], rounds)


def test_a_broker_that_forgets_is_never_killed() -> None:
    assert "kill kafka" not in FAULTS["local"]
    assert "kill kafka" in FAULTS["apache"]


def test_the_page_is_made_of_the_runs(tmp_path: Path) -> None:
    took = [Recovery(1.0, 2.0, 0.1), Recovery(3.0, None, 0.1)]
    survived = [Survived(Planned("kill redis", 1, 1), 0, one) for one in took]
    run = {"broker": "local", "rows lost": 0, "invariants broken": {}, "recovery": recoveries(survived)}
    (tmp_path / "soak-local.json").write_text(json.dumps(run | {"memory": {"gateway": [80, 1080]}}))
    shown = page(tmp_path)
    assert "| rows lost | 0 |" in shown
    assert "| invariants broken | none |" in shown
    assert "| kill redis | 2 | 2 / 3 | 2 / 2 | 0.1 / 0.1 | 2 / 2 |" in shown
    assert "| gateway | 80 | 1,080 |" in shown
