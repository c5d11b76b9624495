"""Which fault comes when: decided by a seed alone, so that a run can be had again."""

import random
from dataclasses import dataclass

FAULTS = (
    "kill gateway",
    "kill credits",
    "kill ingest-worker",
    "kill audit-logger",
    "kill clickhouse",
    "freeze credits",
    "freeze ingest-worker",
    "stop redis",
    "cut postgres",
)
# Quiet at the beginning, so that something is loaded, and at the end, so that it can settle.
_QUIET_S = 10.0
_APART_S = (8.0, 20.0)
_LASTS_S = (1.0, 6.0)


@dataclass(frozen=True)
class Planned:
    at_s: float
    fault: str
    lasts_s: float


def schedule(seed: int, minutes: float) -> list[Planned]:
    """Every fault comes once before any comes again."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    found: list[Planned] = []
    bag: list[str] = []
    at_s = _QUIET_S
    while at_s < minutes * 60 - _QUIET_S:
        if not bag:
            bag = chance.sample(FAULTS, len(FAULTS))
        found.append(Planned(round(at_s, 1), bag.pop(), round(chance.uniform(*_LASTS_S), 1)))
        at_s += found[-1].lasts_s + chance.uniform(*_APART_S)
    return found
