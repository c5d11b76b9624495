"""Rollups: what statistics read instead of the log. Counted from entries that are new, in their transaction."""

from collections.abc import Iterable
from datetime import UTC, date
from math import log2
from uuid import UUID

from audit.entries import Entry
from common.postgres import Connection

NOBODY = UUID(int=0)
BUCKETS = 66
_ERROR_STATUS = 400

# Sorted by key, so that two processes that add to the same rows wait for one another and never deadlock.
_ADD_USAGE = """
    INSERT INTO audit.daily_usage AS kept (user_id, day, endpoint, requests, errors, rows, credits_used_mc)
    SELECT * FROM unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
        AS new (user_id, day, endpoint, requests, errors, rows, credits_used_mc)
     ORDER BY user_id, day, endpoint
        ON CONFLICT (user_id, day, endpoint) DO UPDATE SET
           requests = kept.requests + excluded.requests,
           errors = kept.errors + excluded.errors,
           rows = kept.rows + excluded.rows,
           credits_used_mc = kept.credits_used_mc + excluded.credits_used_mc
"""
_ADD_TOTALS = """
    INSERT INTO audit.daily_totals AS kept (day, requests, errors, rows, credits_used_mc, latency)
    VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (day) DO UPDATE SET
           requests = kept.requests + excluded.requests,
           errors = kept.errors + excluded.errors,
           rows = kept.rows + excluded.rows,
           credits_used_mc = kept.credits_used_mc + excluded.credits_used_mc,
           latency = audit.add_counts(kept.latency, excluded.latency)
"""


class Usage:
    """What a batch adds: [requests, errors, rows, credits_used_mc] by user, day and endpoint, and durations by day."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.sums: dict[tuple[UUID, date, str], list[int]] = {}
        self.latency: dict[date, list[int]] = {}
        for entry in entries:
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        day = day_of(entry)
        key = (entry.user_id or NOBODY, day, entry.endpoint)
        sums = self.sums.get(key)
        if sums is None:
            sums = self.sums[key] = [0, 0, 0, 0]
        sums[0] += 1
        sums[1] += entry.status >= _ERROR_STATUS
        sums[2] += entry.rows
        sums[3] += entry.credits_used_mc
        self.latency.setdefault(day, [0] * BUCKETS)[bucket(entry.duration_ms)] += 1

    def totals(self, day: date) -> list[int]:
        return [sum(column) for column in zip(*(s for (_, d, _), s in self.sums.items() if d == day), strict=True)]


def day_of(entry: Entry) -> date:
    at = entry.created_at
    return (at if at.tzinfo is UTC else at.astimezone(UTC)).date()


def bucket(duration_ms: float) -> int:
    """Four buckets to each doubling, so a percentile is at most 19 % off; the formula is latency_ms's in the schema."""
    return 0 if duration_ms < 1 else min(BUCKETS - 1, 1 + int(4 * log2(duration_ms)))


async def add_usage(connection: Connection, entries: Iterable[Entry]) -> None:
    """Call it last in the transaction: the rows of today are everybody's, and stay locked until the commit."""
    usage = Usage(entries)
    if not usage.sums:
        return
    keys, sums = zip(*usage.sums.items(), strict=True)
    await connection.execute(_ADD_USAGE, *map(list, zip(*keys, strict=True)), *map(list, zip(*sums, strict=True)))
    for day in sorted(usage.latency):
        await connection.execute(_ADD_TOTALS, day, *usage.totals(day), usage.latency[day])
