"""How a dataset is stored: every version in one table or a current table beside a history, on invented people.

A: every version in a MergeTree, read with LIMIT 1 BY. B: a ReplacingMergeTree read with FINAL, and a history that the
loader fills too. C: the same two tables, the current one filled from the history by a materialised view; scans by
FINAL, keys by LIMIT 1 BY, undo and cursors from the history. One row in ten repeats an identity; every answer is
compared with a plain GROUP BY of all that arrived: before merges, after them, and after undoing one upload of ten.
Ten million rows take 15 to 40 minutes and up to 10 GB of disk, so it is not part of `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from rich.console import Console
from rich.table import Table

from benchmarks.dataset_table.bench import Bench, arrive, check_rows, load_all, merge
from benchmarks.dataset_table.queries import drop_b, measure, measure_as_of
from benchmarks.dataset_table.undo import die_and_repeat, reload_upload, undo
from devstack.clickhouse import DATABASE, environment
from devstack.stack import Stack

_DEATHS_ROWS_MAX = 2_000_000  # dying is not a matter of size


def run(rows: int, admin: Client, reader: Client) -> Bench:
    bench = Bench(rows, admin, reader)
    arrive(bench)
    between = load_all(bench)
    check_rows(bench, "as loaded")
    measure(bench, "as loaded")
    merge(bench)
    check_rows(bench, "merged")
    measure(bench, "merged")
    drop_b(bench)
    measure_as_of(bench, between)
    undo(bench, "merged")
    reload_upload(bench)
    undo(bench, "with new parts")
    if rows <= _DEATHS_ROWS_MAX:
        die_and_repeat(bench)
    return bench


@contextmanager
def _client(stack: Stack, user: str) -> Iterator[Client]:
    env = environment(stack.site, user)
    client = clickhouse_connect.get_client(
        host=env["CLICKHOUSE_HOST"],
        port=int(env["CLICKHOUSE_PORT"]),
        username=env["CLICKHOUSE_USER"],
        password=env["CLICKHOUSE_PASSWORD"],
        database=DATABASE,
        autogenerate_session_id=False,
        send_receive_timeout=900,
    )
    try:
        yield client
    finally:
        client.close()


def _on_a_stack(rows: int) -> Bench:
    with tempfile.TemporaryDirectory(prefix="bigdata-bench-") as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            asyncio.run(stack.up(servers_only=True))
            with _client(stack, "admin") as admin, _client(stack, "gateway") as reader:
                return run(rows, admin, reader)
        finally:
            asyncio.run(stack.down())


def _show(bench: Bench) -> None:
    table = Table(f"{bench.rows:,} rows", "A", "B", "C")
    for what, by_candidate in bench.figures.items():
        table.add_row(what, *(f"{by_candidate[name]:,.4g}" if name in by_candidate else "" for name in "ABC"))
    Console(highlight=False, width=140).print(table)


def main() -> int:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.dataset_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--rows", type=int, default=1_000_000, help="a multiple of ten; default 1000000")
    options.add_argument("--json", action="store_true", dest="as_json", help="print the figures as JSON")
    chosen = options.parse_args()
    if chosen.rows < 1000 or chosen.rows % 10:
        options.error("--rows: expected a multiple of ten, at least 1000")
    # Without this a kill by SIGTERM would leave the servers and their gigabytes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    bench = _on_a_stack(chosen.rows)
    if chosen.as_json:
        sys.stdout.write(
            json.dumps({"rows": bench.rows, "figures": bench.figures, "wrong": bench.wrong}, indent=2) + "\n"
        )
    else:
        _show(bench)
    faults = {what: count for what, count in bench.wrong.items() if count}
    sys.stderr.write(f"compared with the truth: {len(bench.wrong)} times, wrong: {faults or 'nothing'}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
