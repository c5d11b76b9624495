"""Which fault comes when: decided by a seed alone, so that a run can be had again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

_ANY_BROKER = (
    "kill gateway",
    "kill credits",
    "kill ingest-worker",
    "kill audit-logger",
    "kill clickhouse",
    "kill postgres",
    "kill redis",
    "freeze gateway",
    "freeze credits",
    "freeze ingest-worker",
    "freeze audit-logger",
    "freeze clickhouse",
    "freeze postgres",
    "freeze redis",
    "freeze kafka",
    "stop redis",
    "stop kafka",
    "cut postgres",
)
# The local broker keeps no promise across SIGKILL, and throws no member out however long it sleeps.
FAULTS = {
    "local": _ANY_BROKER,
    "apache": (*_ANY_BROKER, "kill kafka", "evict ingest-worker", "evict audit-logger"),
}
_LASTS_S = (1.0, 6.0)
_CALM_S = (4.0, 16.0)


@dataclass(frozen=True)
class Planned:
    """`calm_s`: how long nothing happens after everything was well again."""

    fault: str
    lasts_s: float
    calm_s: float


def schedule(seed: int, broker: str = "local") -> Iterator[Planned]:
    """Without end. Every fault comes once before any comes again."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    faults = FAULTS[broker]
    while True:
        for fault in chance.sample(faults, len(faults)):
            yield Planned(fault, round(chance.uniform(*_LASTS_S), 1), round(chance.uniform(*_CALM_S), 1))
