"""Undo of one upload among ten, what a reader sees at every step, and the same file loaded again."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.dataset_table import tables as sql
from benchmarks.dataset_table.bench import ABSENT, UNDONE, Bench, check_rows


def _delete(table: str) -> str:
    """Waits until it is done. Rows that are inserted later are not deleted: the upload's loaders must have ended.

    DELETE FROM writes a mask, and FINAL and merges leave the masked rows out first; ALTER DELETE writes every column
    of every part again, since an upload's rows are everywhere in an order by hash.
    """
    return f"DELETE FROM {table} WHERE upload_id = '{sql.upload_id(UNDONE)}'"  # noqa: S608 - names and values are ours


# The order matters: restored rows are older than those of the upload, and a merge would fold them into these.
_GAP = "delete from the current table"  # behind it, what was replaced is missing there
_STEPS: Mapping[str, str] = {
    _GAP: _delete("people"),
    "restore what it had replaced": sql.restore("people", "people_history", f"'{sql.upload_id(UNDONE)}'"),
    "delete from the history": _delete("people_history"),
}


def undo(bench: Bench, state: str) -> None:
    """On A and C. The steps of B are those of C: what differs is which table readers read meanwhile."""
    excluded = sql.every_version("every", ABSENT)
    bench.found(f"rows, undo {state}, A, upload excluded", bench.differences(excluded.newest, "truth_without"))
    bench.note(f"undo {state}, s", "A", _seconds(bench, _delete("every")))
    everything = sql.every_version("every")
    bench.found(f"rows, undo {state}, A, done", bench.differences(everything.newest, "truth_without"))
    repairing = sql.every_version("people_history", ABSENT)
    total = 0.0
    for step, statement in _STEPS.items():
        seconds = _seconds(bench, statement)
        total += seconds
        bench.note(f"undo {state}: {step}, s", "C", seconds)
        if step == _GAP:
            plainly_read = bench.differences("people FINAL", "truth_without")
            bench.note(f"undo {state}: rows wrong meanwhile for readers of the current table", "B", plainly_read)
            by_history = bench.differences(repairing.newest, "truth_without")
            bench.found(f"rows, undo {state}, C, meanwhile for readers of the history", by_history)
    bench.note(f"undo {state}, s", "C", total)
    bench.found(f"rows, undo {state}, C, done", bench.differences("people FINAL", "truth_without"))


def reload_upload(bench: Bench) -> None:
    """The same file again. Its first tokens are still remembered, so they must not be used again."""
    _reload(bench, generation=1)
    let_through = bench.differences("people FINAL", "truth_without")
    bench.note("rows of a reload that the old tokens let through", "C", let_through)
    _reload(bench, generation=2)
    check_rows(bench, "the same file again")


def die_and_repeat(bench: Bench) -> None:
    """A worker that dies behind any step starts again from the first: nothing may change by that."""
    steps = list(_STEPS.values())
    for done in range(1, len(steps) + 1):
        bench.load("people_history", UNDONE, generation=10 + done)
        bench.run("OPTIMIZE TABLE people FINAL")  # what the upload replaced must come from the history again
        for statement in (*steps[:done], *steps):
            bench.run(statement)
        found = bench.differences("people FINAL", "truth_without")
        bench.found(f"rows, undo by a worker that died behind step {done}, C", found)


def _reload(bench: Bench, generation: int) -> None:
    for table in ("every", "people_history"):
        bench.load(table, UNDONE, generation)


def _seconds(bench: Bench, statement: str) -> float:
    began = time.perf_counter()
    bench.run(statement)
    return time.perf_counter() - began
