"""docs/proof.md: every fault and hostile input with the tests that prove it, read from the tests themselves.

A test says which faults it injects by the numbers at the start of its docstring: `26.`, `3 and 4: …`, `25, 37: …`.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from support.hostile_inputs import HOSTILE
from support.repository import ROOT

FAULTS = {
    1: "gateway killed after the hold, before the query",
    2: "gateway killed between ClickHouse's answer and the capture",
    3: "credits killed before COMMIT",
    4: "credits killed after COMMIT, the client repeats its key",
    5: "clients cancel at random moments around COMMIT",
    6: "balance 10, 200 queries at once on two gateways",
    7: "50 requests at once with one key",
    8: "capture, release and expiry race for one hold",
    9: "ClickHouse down",
    10: "a query past its time",
    11: "the connection to ClickHouse cut in mid-result",
    12: "the client leaves in mid-query, or reads too slowly",
    13: "Postgres down",
    14: "all Postgres backends terminated under load",
    15: "Postgres holds connections and says nothing",
    16: "the pool of connections used up",
    17: "30 % of transactions fail to serialise",
    18: "a gateway's clock an hour wrong",
    19: "Redis holds connections and says nothing",
    20: "slow Redis",
    21: "FLUSHALL",
    22: "keys in Redis without an end",
    23: "a revoked key still cached, the notice lost",
    24: "gateway killed after the object is stored, before Kafka's acknowledgement",
    25: "Kafka down",
    26: "the leader killed after it acknowledged",
    27: "the loader killed from fetch to commit",
    28: "everything delivered twice, also behind the window of tokens",
    29: "a rebalance in mid-batch, a stopped member that wakes",
    30: "poison: value, header, size",
    31: "ClickHouse refuses: too many parts, disk full",
    32: "ClickHouse dies after applying, before answering",
    33: "nothing but invalid input",
    34: "a file that kills its worker three times",
    35: "undo, then the same file again",
    36: "SIGTERM while a handler outlives the grace period",
    37: "gateway killed with finished requests in its spool; the spool's disk full",
    38: "brokers restart ten times",
    39: "mixed load with random faults",
}
SOAK = 39  # a program, not a test: docs/evidence.md is what it found
_FOLDERS = ("failures", "contracts", "conformance", "journeys", "hostile", "soak", "ingest", "audit")
_NUMBERS = re.compile(r"\d+(?:(?:,| and|, and|–) ?\d+)*(?=[.:]|,\s|$)")


@dataclass(frozen=True)
class Proof:
    file: Path
    name: str
    numbers: tuple[int, ...]

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")


@cache
def proofs() -> list[Proof]:
    files = [file for folder in _FOLDERS for file in sorted((ROOT / "tests" / folder).glob("test_*.py"))]
    return [proof for file in files for proof in _in(file)]


def _in(file: Path) -> Iterator[Proof]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield Proof(file.relative_to(ROOT), node.name, _numbers(ast.get_docstring(node) or ""))


def _numbers(docstring: str) -> tuple[int, ...]:
    match = _NUMBERS.match(docstring)
    if match is None:
        return ()
    text = match.group()
    if "–" in text:
        first, last = (int(number) for number in text.split("–"))
        return tuple(range(first, last + 1))
    return tuple(int(number) for number in re.findall(r"\d+", text) if int(number) in FAULTS)


def _shown(test: str) -> str:
    file, _, name = test.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')} (`{file}`)"


def page() -> str:
    by_fault: dict[int, list[Proof]] = defaultdict(list)
    for proof in proofs():
        for number in proof.numbers:
            by_fault[number].append(proof)
    lines = [
        "# What is proven, and by which test",
        "",
        "Written by `make docs` from the tests; a test compares. Faults are injected into real servers, and then the",
        "invariants of tests/support/invariants.py are asked. `make test` runs most, `make faults` the long ones,",
        "`make conformance` those that need Apache Kafka, `make soak` the last.",
        "",
        "| | fault | proven by |",
        "|---|---|---|",
    ]
    for number, fault in FAULTS.items():
        shown = "<br>".join(f"{proof.sentence} (`{proof.file.name}`)" for proof in by_fault[number])
        shown = "`make soak`, docs/evidence.md" if number == SOAK else shown
        lines.append(f"| {number} | {fault} | {shown} |")
    lines += ["", "## Hostile inputs", "", "Always also: no 5xx, no charge, one row in the log, the process alive."]
    for kind, inputs in HOSTILE.items():
        lines += ["", f"| {kind}: input and outcome | sent by |", "|---|---|"]
        lines += [f"| {sent} | {'<br>'.join(map(_shown, tests))} |" for sent, tests in inputs.items()]
    lines += ["", "All of tests/hostile:", ""]
    for file in sorted({proof.file for proof in proofs() if proof.file.parts[1] == "hostile"}):
        lines += [f"`{file}`", "", *(f"- {proof.sentence}" for proof in proofs() if proof.file == file), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
