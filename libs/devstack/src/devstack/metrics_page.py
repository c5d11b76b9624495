"""docs/metrics.md, written from the calls that make the metrics: `make docs`. A test compares the page with them.

What follows the heading of the scrape is kept as it is: it was taken from processes that run.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_PROCESSES = {
    "common": "ingest-worker, audit-logger",
    "gateway": "api-gateway",
    "credits": "credits",
    "ingest": "ingest-worker",
    "audit": "audit-logger",
}
_KINDS = frozenset({"counter", "gauge", "histogram"})
_HEAD = """# Metrics

In the format of Prometheus, at `/metrics` on the port of `OPS_PORT`, which the public one never serves. The table is
written from the code by `make docs`, and a test compares. Counters begin at 0 when their process starts. The figures of
the Python process itself (`process_*`, `python_*`) come along.

| metric | kind | labels | process | what it says |
|---|---|---|---|---|
"""
SCRAPE = "\n## A scrape\n"


@dataclass(frozen=True, order=True)
class Metric:
    name: str
    kind: str
    labels: tuple[str, ...]
    process: str
    what: str


def metrics() -> list[Metric]:
    return sorted(metric for package in _PROCESSES for metric in _of_package(package))


def page(present: str) -> str:
    """The page as it should be, from the one that is there."""
    rows = "".join(
        f"| `{one.name}` | {one.kind} | {', '.join(one.labels)} | {one.process} | {one.what} |\n" for one in metrics()
    )
    _, _, scrape = present.partition(SCRAPE)
    return f"{_HEAD}{rows}{SCRAPE}{scrape}"


def _of_package(package: str) -> Iterator[Metric]:
    found = find_spec(package)
    assert found is not None and found.submodule_search_locations  # noqa: S101, PT018 - packages of this project
    for file in sorted(Path(found.submodule_search_locations[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
                texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                if len(texts) == len(node.args) and texts:
                    yield Metric(texts[0], node.func.id, tuple(texts[2:]), _PROCESSES[package], texts[1])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(page(target.read_text(encoding="utf-8") if target.exists() else ""), encoding="utf-8")
