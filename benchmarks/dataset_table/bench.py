"""Loads what arrives into every candidate and compares rows with the truth."""

# Every name and value in the SQL is a literal of these files.
# ruff: noqa: S608

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass, field

from clickhouse_connect.driver.client import Client

from benchmarks.dataset_table import tables as sql

BLOCK_ROWS = 100_000
UNDONE = 5  # of the ten
# Of the inserts; what merges cost later is not in it.
_LOAD_CPU = """
    SELECT sum(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds'])
      FROM system.query_log WHERE type = 'QueryFinish' AND log_comment IN ({})
"""
_SLICES = 4  # of the keys: a comparison of all at once would not fit the server's memory
ABSENT = f"upload_id NOT IN ('{sql.upload_id(UNDONE)}')"


@dataclass
class Bench:
    """One run. `figures` maps what was measured to a value per candidate; `wrong` counts rows and answers."""

    rows: int
    admin: Client
    reader: Client
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - a repeatable choice

    def note(self, what: str, candidate: str, value: float) -> None:
        self.figures.setdefault(what, {})[candidate] = value
        sys.stderr.write(f"{what}: {candidate} {value:,.4g}\n")

    def found(self, what: str, differences: int) -> None:
        self.wrong[what] = self.wrong.get(what, 0) + differences
        sys.stderr.write(f"{what}: {differences} wrong\n")

    def compared(self, what: str, same: bool) -> None:  # noqa: FBT001 - it reads as what it says
        self.wrong[what] = self.wrong.get(what, 0) + (not same)

    def run(self, statement: str, **settings: object) -> None:
        self.admin.command(statement, settings=settings)

    def number(self, query: str) -> int:
        return int(self.admin.raw_query(query).decode())

    def someone(self, of_kind: int | None) -> int:
        """The number of a person, of any kind or of one: who has which identity follows from the kind."""
        n = self.dice.randrange(self.rows - 1000)
        if of_kind is None:
            return n
        kind = "cityHash64(number, 2) % 100"
        return self.number(f"SELECT number FROM numbers({n}, 1000) WHERE {kind} = {of_kind} LIMIT 1")

    def load(self, table: str, upload: int, generation: int = 1) -> float:
        """One upload in blocks with tokens, as a loader would; returns the seconds."""
        share = self.rows // sql.UPLOADS
        began = time.perf_counter()
        for start in range(upload * share, (upload + 1) * share, BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, (upload + 1) * share)
            self.run(
                f"INSERT INTO {table} ({sql.ROW}) SELECT {sql.ROW} FROM arrivals"
                f" WHERE row_no >= {start} AND row_no < {end}",
                insert_deduplication_token=f"{upload}:{generation}:{start}",
                log_comment=f"load {table}",
                deduplicate_blocks_in_dependent_materialized_views=1,
                max_threads=1,  # one block per INSERT, or the token covers only a part
                max_block_size=BLOCK_ROWS,
                min_insert_block_size_rows=BLOCK_ROWS,
            )
        return time.perf_counter() - began

    def settle(self) -> None:
        while self.number("SELECT count() FROM system.merges WHERE database = 'bigdata'"):
            time.sleep(0.2)

    def differences(self, relation: str, truth: str) -> int:
        """Rows that are in one and not in the other, row by row; an identity shown twice counts too."""
        return sum(self.number(_differences(relation, truth, part)) for part in range(_SLICES))

    def bytes_of(self, *tables: str) -> int:
        names = ", ".join(f"'{table}'" for table in tables)
        return self.number(f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table IN ({names})")

    def parts_of(self, table: str) -> int:
        return self.number(f"SELECT count() FROM system.parts WHERE active AND table = '{table}'")


def _differences(relation: str, truth: str, part: int) -> str:
    slice_ = f"modulo(reinterpretAsUInt8(dedupe_key), {_SLICES}) = {part}"
    row = f"cityHash64(dedupe_key, tuple({sql.ROW}))"
    return (
        "SELECT countIf(ours != 1 OR theirs != 1)"
        " FROM (SELECT dedupe_key, row, sum(side) AS ours, sum(1 - side) AS theirs"
        f" FROM (SELECT dedupe_key, {row} AS row, 1 AS side FROM {relation} WHERE {slice_}"
        f" UNION ALL SELECT dedupe_key, {row} AS row, 0 AS side FROM {truth} WHERE {slice_}) GROUP BY dedupe_key, row)"
    )


def arrive(bench: Bench) -> None:
    """Everything that arrives, and what should be visible: all of it, without one upload, and after five of ten."""
    bench.run(sql.ARRIVALS)
    bench.run(sql.invented(bench.rows))
    for truth, arrived in {
        "truth": "1",
        "truth_without": ABSENT,
        "truth_before": f"row_no < {bench.rows // 2}",
    }.items():
        bench.run(sql.TRUTH.format(truth))
        for part in range(_SLICES):
            seen = f"modulo(reinterpretAsUInt8(dedupe_key), {_SLICES}) = {part} AND {arrived}"
            newest = f"SELECT dedupe_key, max(version) FROM arrivals WHERE {seen} GROUP BY dedupe_key"
            bench.run(
                f"INSERT INTO {truth} (dedupe_key, {sql.ROW}) SELECT dedupe_key, {sql.ROW} FROM arrivals"
                f" WHERE {seen} AND (dedupe_key, version) IN ({newest})"
            )


def load_all(bench: Bench) -> str:
    """Every candidate, one after the other; returns the time between the fifth and the sixth upload of the last."""
    between = ""
    for candidate, tables in {"A": ["every"], "B": ["twice_history", "twice"], "C": ["people_history"]}.items():
        for statement in sql.TABLES[tables[-1].removesuffix("_history")]:
            bench.run(statement)
        kept = ["people", "people_history"] if candidate == "C" else tables
        seconds = 0.0
        for upload in range(sql.UPLOADS):
            if upload == sql.UPLOADS // 2:
                between = bench.admin.raw_query("SELECT now64(6)").decode().strip()
            seconds += sum(bench.load(table, upload) for table in tables)
        began = time.perf_counter()
        bench.settle()
        bench.run("SYSTEM FLUSH LOGS")
        labels = ", ".join(f"'load {table}'" for table in tables)
        bench.note("load, rows/s", candidate, bench.rows / seconds)
        bench.note("load, rows per CPU second", candidate, bench.rows / bench.number(_LOAD_CPU.format(labels)) * 1e6)
        bench.note("merges still running after the load, s", candidate, time.perf_counter() - began)
        bench.note("disk after the load, with indexes, bytes a row", candidate, bench.bytes_of(*kept) / bench.rows)
    return between


def check_rows(bench: Bench, state: str, truth: str = "truth") -> None:
    bench.found(f"rows, {state}, A", bench.differences(sql.every_version("every").newest, truth))
    bench.found(f"rows, {state}, C", bench.differences("people FINAL", truth))
    if bench.number("EXISTS TABLE twice"):
        bench.found(f"rows, {state}, B", bench.differences("twice FINAL", truth))
    bench.found(f"rows, {state}, history", bench.differences(sql.every_version("people_history").newest, truth))


def merge(bench: Bench) -> None:
    for candidate, tables in {
        "A": ["every"],
        "B": ["twice_history", "twice"],
        "C": ["people_history", "people"],
    }.items():
        bench.note("parts before OPTIMIZE", candidate, sum(bench.parts_of(table) for table in tables))
        for table in tables:
            bench.run(f"OPTIMIZE TABLE {table} FINAL")
        bench.note("merged disk with indexes, bytes a row", candidate, bench.bytes_of(*tables) / bench.rows)
