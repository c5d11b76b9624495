from datetime import timedelta
from typing import Any

import orjson
import pytest

from audit.entries import Entry, Window, read_entry
from common.errors import Permanent
from support.audit_events import NOW, finished

WINDOW = Window.around(NOW, retention_days=30, future_max_s=3600)


def test_an_event_becomes_an_entry_of_the_same_values() -> None:
    event = finished(hold_id="00000000-0000-0000-0000-000000000063", error_code="rate_limited", action="add-credits")
    entry = read_entry(event.encoded(), WINDOW)
    assert entry.created_at == event.occurred_at
    for field in set(Entry._fields) - {"created_at"}:
        assert getattr(entry, field) == getattr(event, field)


def test_unknown_fields_are_ignored() -> None:
    value = orjson.dumps(orjson.loads(finished().encoded()) | {"added_later": {"a": 1}})
    assert read_entry(value, WINDOW).username == "ada"


def test_text_is_cleaned_on_its_way_in() -> None:
    entry = read_entry(finished(username="a\r\nb", target="x" * 5000, ip="\x1b[2J").encoded(), WINDOW)
    assert (entry.username, entry.ip) == ("a\\x0d\\x0ab", "\\x1b[2J")
    assert entry.target is not None
    assert len(entry.target) == 256


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"username": "\\ud800"}'])
def test_what_is_no_event_is_permanent(value: bytes | None) -> None:
    with pytest.raises(Permanent, match="not a RequestFinished"):
        read_entry(value, WINDOW)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"occurred_at": (NOW + timedelta(hours=2)).isoformat()}, "in the future"),
        ({"occurred_at": (NOW - timedelta(days=31)).isoformat()}, "older than the log keeps"),
        ({"occurred_at": "2026-11-21T12:00:00"}, "no time zone"),
        ({"duration_ms": -1}, "not a duration"),
        ({"rows": -1}, "out of range"),
        ({"rows": 10**17}, "out of range"),
        ({"credits_used_mc": 10**16}, "out of range"),
        ({"credits_used_mc": -1}, "credits_used_mc"),
        ({"status": 10**10}, "not an HTTP status"),
        ({"event_id": "no"}, "event_id"),
    ],
)
def test_values_the_log_cannot_hold_are_permanent_and_named(change: dict[str, Any], reason: str) -> None:
    value = orjson.dumps(orjson.loads(finished().encoded()) | change)
    with pytest.raises(Permanent, match=reason):
        read_entry(value, WINDOW)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_numbers_that_are_none_are_permanent(number: bytes) -> None:
    value = finished(duration_ms=4321).encoded().replace(b"4321.0", number)
    with pytest.raises(Permanent):
        read_entry(value, WINDOW)


def test_the_reason_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(Permanent) as caught:
        read_entry(b'{"event_id": "bd_secret"}', WINDOW)
    assert "bd_secret" not in str(caught.value)


def test_the_first_moment_of_the_oldest_day_is_still_kept() -> None:
    oldest = NOW.replace(hour=0) - timedelta(days=30)
    assert read_entry(finished(occurred_at=oldest).encoded(), WINDOW).created_at == oldest
