"""`make bench`: every benchmark on a stack of its own, or those named on the command line; `--json` for programs."""

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

import uvloop

from benchmarks.record import record
from benchmarks.report import Figure, show
from devstack.stack import Stack

BENCHMARKS = (
    "audit_cost",
    "audit_log",
    "credits_hot_account",
    "load_formats",
    "load_scaling",
    "query_lookup",
    "query_cached",
    "query_export",
    "query_growth",
    "records_topic",
    "stats_rollups",
)


async def run(names: list[str], *, recording: bool) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="bigdata-bench-") as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            await stack.up()
            for name in names:
                module = importlib.import_module(f"benchmarks.{name}")
                sys.stderr.write(f"{name} …\n")
                found = await module.run(stack)
                figures += found
                if recording:
                    record(found)
        finally:
            await stack.down()
    return figures


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all when absent")
    options.add_argument("--json", action="store_true", dest="as_json", help="print the figures as JSON")
    options.add_argument("--record", action="store_true", help="keep the figures in results.json and RESULTS.md")
    chosen = options.parse_args()
    unknown = sorted(set(chosen.names) - set(BENCHMARKS))
    if unknown:
        options.error(f"there is no benchmark named {', '.join(unknown)}")
    figures = uvloop.run(
        run(chosen.names or list(BENCHMARKS), recording=chosen.record)
    )  # the loop that the services run on
    if chosen.as_json:
        sys.stdout.write(json.dumps([one.as_json() for one in figures], indent=2) + "\n")
    else:
        show(figures)


if __name__ == "__main__":
    main()
