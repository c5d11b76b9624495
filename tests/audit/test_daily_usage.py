from datetime import date, timedelta, timezone
from uuid import UUID

import pytest

from audit.daily_usage import BUCKETS, NOBODY, Usage, bucket
from audit.entries import Entry, Window, read_entry
from support.audit_events import NOW, finished, some_finished

WINDOW = Window.around(NOW, retention_days=30, future_max_s=86_400)


def entry_of(**fields: object) -> Entry:
    return read_entry(finished(**fields).encoded(), WINDOW)


def test_requests_without_a_user_are_counted_under_the_nil_uuid() -> None:
    usage = Usage([entry_of(user_id=None), entry_of()])
    assert {user for user, _, _ in usage.sums} == {NOBODY, UUID(int=7)}


def test_the_totals_of_a_day_are_the_sums_over_its_users() -> None:
    entries = [read_entry(event.encoded(), WINDOW) for event in some_finished(500, seed=11)]
    usage = Usage(entries)
    for day in (date(2026, 11, 20), date(2026, 11, 21)):
        of_day = [entry for entry in entries if entry.created_at.date() == day]
        errors = sum(entry.status >= 400 for entry in of_day)
        rows, cost = sum(entry.rows for entry in of_day), sum(entry.credits_used_mc for entry in of_day)
        assert usage.totals(day) == [len(of_day), errors, rows, cost]
        assert sum(usage.latency[day]) == len(of_day)


def test_a_day_is_a_utc_day_whatever_the_event_s_zone() -> None:
    evening = NOW.replace(hour=23).astimezone(timezone(timedelta(hours=9)))
    assert [day for _, day, _ in Usage([entry_of(occurred_at=evening)]).sums] == [date(2026, 11, 21)]


@pytest.mark.parametrize(
    ("duration_ms", "place"),
    [(0, 0), (0.99, 0), (1, 1), (1.18, 1), (1.2, 2), (2, 5), (128, 29), (65_000, 64), (65_536, 65), (1e12, 65)],
)
def test_a_duration_falls_into_the_bucket_of_its_size(duration_ms: float, place: int) -> None:
    assert bucket(duration_ms) == place
    assert place < BUCKETS
