"""I3: the CSV with one and two workers, and ten times as large. The baseline is one worker and the file once."""

import asyncio
import os

from benchmarks.load_files import WORKER, as_csv, load
from benchmarks.report import Figure
from common.ids import new_id
from devstack.stack import Stack

ROWS = int(os.environ.get("BENCH_LOADED", "1000000")) // 2
_TIMES = 10
_ROUNDS = 3  # alternating, since the tables grow; the best of each counts
_SECOND = f"{WORKER}-2"
_RSS_MIB_MAX = 512
_SPEEDUP, _LINEAR = 1.5, 0.8
_CHUNKS = {"CHUNK_BYTES": str(4 << 20)}  # so that there is something to share


async def run(stack: Stack, rows: int = ROWS) -> list[Figure]:
    await stack.restart(WORKER, _CHUNKS)
    one, two = 0.0, 0.0
    for _ in range(_ROUNDS):
        one = max(one, await _warm(stack, rows, (WORKER,)))
        await stack.start_extra(WORKER, 2, _CHUNKS)
        two = max(two, await _warm(stack, rows, (WORKER, _SECOND)))
        await stack.stop(_SECOND)
    large, rss = await _loaded(stack, rows * _TIMES, (WORKER,))
    return [
        Figure("I3", f"{rows:,} people, 2 workers", "rows/s", two, one, f">= {_SPEEDUP} x", two >= _SPEEDUP * one),
        Figure("I3", f"{rows * _TIMES:,} people", "rows/s", large, one, f">= {_LINEAR} x", large >= _LINEAR * one),
        Figure("I3", "memory of the worker then", "MiB", rss, _RSS_MIB_MAX, "<= 1 x", rss <= _RSS_MIB_MAX),
    ]


async def _warm(stack: Stack, rows: int, workers: tuple[str, ...]) -> float:
    """Rows a second, once the workers have shared the partitions out."""
    await _loaded(stack, rows // 10, workers)
    return (await _loaded(stack, rows, workers))[0]


async def _loaded(stack: Stack, rows: int, workers: tuple[str, ...]) -> tuple[float, float]:
    """Rows a second, and the memory it took."""
    data = await asyncio.to_thread(as_csv, rows, f"s{new_id().hex[-8:]}")
    found = await load(stack, data, "people.csv", rows, workers)
    return rows / found.seconds, found.rss_mib
