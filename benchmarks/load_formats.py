"""I1 and I2: a million people as CSV, JSON lines, Parquet, XML and gzip, from accepted to visible, one worker.

The baseline is ClickHouse loading the CSV alone, with the same normalisation in SQL and the same two tables.
"""

import asyncio
import os

from benchmarks.load_files import FORMATS, ByClickHouse, as_csv, as_xml, load
from benchmarks.report import Figure
from common.ids import new_id
from devstack.stack import Stack

ROWS = int(os.environ.get("BENCH_LOADED", "1000000"))
_ROUNDS = 2  # alternating; the best of each counts
_TO_REACH = {"people.csv": 0.6, "people.jsonl": 0.5, "people.parquet": 0.6, "people.xml": 0.15, "people.csv.gz": 0.5}
_PANDAS_TIMES = 3


async def run(stack: Stack, rows: int = ROWS) -> list[Figure]:
    alone = ByClickHouse(stack)
    seconds = dict.fromkeys(FORMATS, float("inf"))
    baseline = float("inf")
    for _ in range(_ROUNDS):
        for filename, write in FORMATS.items():
            tag = f"t{new_id().hex[-8:]}"
            data = await asyncio.to_thread(as_csv, rows, f"b{tag}")
            baseline = min(baseline, await asyncio.to_thread(alone.load, data, rows, f"b{tag}"))
            data = await asyncio.to_thread(write, rows, tag)
            seconds[filename] = min(seconds[filename], (await load(stack, data, filename, rows)).seconds)
    figures = [
        Figure(
            "I1" if filename == "people.csv" else "I2",
            f"{rows:,} people as {filename}",
            "rows/s",
            rows / taken,
            rows / baseline,
            f">= {_TO_REACH[filename]:.0%}",
            baseline / taken >= _TO_REACH[filename],
        )
        for filename, taken in seconds.items()
    ]
    return [*figures, await asyncio.to_thread(_against_pandas, alone, rows, rows / seconds["people.xml"])]


def _against_pandas(alone: ByClickHouse, rows: int, ours: float) -> Figure:
    """As many rows by pandas.read_xml: its data frame is inserted, and normalised in SQL as the baseline is."""
    tag = f"t{new_id().hex[-8:]}"
    rate = rows / alone.load_xml_by_pandas(as_xml(rows, tag), rows, tag)
    reached = ours >= _PANDAS_TIMES * rate
    return Figure(
        "I2", "the XML, against a load by pandas.read_xml", "rows/s", ours, rate, f">= {_PANDAS_TIMES} x", reached
    )
