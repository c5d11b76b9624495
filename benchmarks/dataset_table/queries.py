"""Every query on every candidate, timed in turns and compared with the truth."""

from __future__ import annotations

import statistics
import time

from clickhouse_connect.driver.client import Client

from benchmarks.dataset_table import tables as sql
from benchmarks.dataset_table.bench import Bench

LOOKUPS = 24
SCANS = 3
CHECKED = 6  # answers of each query that are compared with the truth
_COSTS = """
    SELECT log_comment,
           quantileExact(0.5)(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']) / 1000,
           quantileExact(0.5)(read_rows), max(memory_usage) / 1048576
      FROM system.query_log WHERE type = 'QueryFinish' AND log_comment LIKE '%|_'
  GROUP BY log_comment ORDER BY min(event_time_microseconds)
"""


def measure(bench: Bench, state: str) -> None:
    candidates = [sql.every_version("every"), sql.always_final("twice"), sql.current_and_history("people")]
    truth = sql.plain("truth")
    for place, (name, query) in enumerate(sql.QUERIES.items()):
        taken: dict[str, list[float]] = {shapes.name: [] for shapes in candidates}
        for turn in range(LOOKUPS if place < sql.POINT_LOOKUPS else SCANS):
            n = bench.someone(of_kind=97 if name in sql.OF_FEW else None)
            expected = bench.admin.raw_query(query(truth, n)) if turn < CHECKED else None
            for shapes in candidates:
                answer, seconds = _timed(bench.reader, query(shapes, n), f"{name}, {state}|{shapes.name}")
                taken[shapes.name].append(seconds)
                if expected is not None:
                    bench.compared(f"answers, {state}, {shapes.name}", answer == expected)
        for candidate, times in taken.items():
            bench.note(f"{name}, {state}, ms", candidate, statistics.median(times) * 1000)
    _note_costs(bench)


def _note_costs(bench: Bench) -> None:
    """What the server spent on each query: unlike its duration that hardly depends on what else the machine does."""
    bench.run("SYSTEM FLUSH LOGS")
    for line in bench.admin.raw_query(_COSTS).decode().splitlines():
        label, cpu_ms, rows_read, memory_mib = line.split("\t")
        what, _, candidate = label.partition("|")
        bench.note(f"{what}, CPU ms", candidate, float(cpu_ms))
        bench.note(f"{what}, rows read", candidate, float(rows_read))
        bench.note(f"{what}, peak MiB", candidate, float(memory_mib))
    bench.run("TRUNCATE TABLE system.query_log")


def drop_b(bench: Bench) -> None:
    """Room on the disk: undo and cursors of B would be those of C."""
    for table in ("twice", "twice_history"):
        bench.run(f"DROP TABLE {table} SYNC")


def measure_as_of(bench: Bench, between: str) -> None:
    """Pages as they were after five uploads, from the history, while five more are there."""
    seen = f"ingest_ts <= toDateTime64('{between}', 6, 'UTC')"
    past, before = sql.every_version("people_history", seen), sql.plain("truth_before")
    bench.found("rows, as of half of the load, C", bench.differences(past.newest, "truth_before"))
    in_key_order, by_range = sql.QUERIES["next page, key order"], sql.QUERIES["range page, sorted"]
    places = [bench.dice.randrange(bench.rows) for _ in range(SCANS)]
    pages = {
        "as_of page, key order": [(sql.as_of_page("people_history", seen, n), in_key_order(before, n)) for n in places],
        "as_of page, sorted": [(by_range(past, n), by_range(before, n)) for n in places],
    }
    for name, asked in pages.items():
        times = []
        for query, expect in asked:
            answer, seconds = _timed(bench.reader, query, f"{name}|C")
            times.append(seconds)
            bench.compared(f"answers, {name}, C", answer == bench.admin.raw_query(expect))
        bench.note(f"{name}, ms", "C", statistics.median(times) * 1000)
    _note_costs(bench)


def _timed(client: Client, query: str, label: str) -> tuple[bytes, float]:
    began = time.perf_counter()
    answer = client.raw_query(query, settings={"log_comment": label})
    return answer, time.perf_counter() - began
