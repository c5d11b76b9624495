"""Which rows a query looks at: one per identity, the newest, merged or not. Every read shape of decision 7 is here.

Never a filter on a value inside the subquery that takes the newest: it would find an old version that matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.query_filters import Conditions

_NEWEST = "ORDER BY dedupe_key DESC, version DESC LIMIT 1 BY dedupe_key"


@dataclass(frozen=True)
class Snapshot:
    """What of the history counts, as placeholders: nothing loaded later, nothing of an upload that is being undone."""

    as_of: str | None = None
    excluded: str | None = None

    @property
    def conditions(self) -> list[str]:
        late = [f"ingest_ts <= {self.as_of}"] if self.as_of else []
        return [*late, *([f"upload_id NOT IN {self.excluded}"] if self.excluded else [])]


@dataclass(frozen=True)
class Source:
    """`sql` is FROM and WHERE. `by_key`: read by a few keys, whatever the dataset's size.

    `short`: a page of it may have fewer rows than its limit and not be the last.
    """

    sql: str
    by_key: bool = False
    one_row_at_most: bool = False
    short: bool = False


def source_of(conditions: Conditions, snapshot: Snapshot | None = None) -> Source:
    """The first identity through its key, other indexed columns in two steps, everything else by a scan."""
    snapshot = snapshot or Snapshot()
    dataset, key, found = conditions.dataset, conditions.identity_key, conditions.findable
    where = _where(conditions.sql)
    # The history alone knows what was there earlier, and what an upload that is being undone had replaced.
    table = dataset.history if snapshot.conditions else dataset.name
    if key is not None:
        # The filter itself stays outside: keys can collide.
        newest = _newest(table, [f"dedupe_key = {key}", *snapshot.conditions])
        return Source(f"FROM {newest}{where}", by_key=True, one_row_at_most=True)
    if found:
        # Keys of any version: too many and never too few. The filter outside judges the newest of each.
        keys = f"dedupe_key IN (SELECT dedupe_key FROM {dataset.history} WHERE {' AND '.join(found)})"  # noqa: S608 - as above
        return Source(f"FROM {_newest(table, [keys, *snapshot.conditions])}{where}", by_key=True)
    if snapshot.conditions:
        return Source(f"FROM {_newest(table, snapshot.conditions)}{where}")
    return Source(f"FROM {table} FINAL{where}")


def next_in_key_order(conditions: Conditions, snapshot: Snapshot, behind: str, limit: int) -> Source:
    """A page of everything in key order: first its keys, then the newest version of each. Reads no more than that."""
    history = conditions.dataset.history
    versions, keys = conditions.bind("UInt64", 2 * limit), conditions.bind("UInt64", limit)
    read = (
        f"SELECT dedupe_key FROM {history}{_where([behind, *snapshot.conditions])} ORDER BY dedupe_key LIMIT {versions}"  # noqa: S608 - names of a declaration
    )
    page = f"dedupe_key IN (SELECT DISTINCT dedupe_key FROM ({read}) ORDER BY dedupe_key LIMIT {keys})"  # noqa: S608 - as above
    return Source(f"FROM {_newest(history, [page, *snapshot.conditions])}", short=True)


def _newest(table: str, conditions: Sequence[str]) -> str:
    return f"(SELECT * FROM {table}{_where(conditions)} {_NEWEST})"  # noqa: S608 - names of a declaration


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
