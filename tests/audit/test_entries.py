from datetime import timedelta
from typing import Any

import orjson
import pytest

from audit.entries import Entry, Window, _read_by_model, _read_plain, read_entry
from common.errors import Permanent
from common.events import RequestFinished
from support.audit_events import NOW, finished, some_finished

WINDOW = Window.around(NOW, retention_days=30, future_max_s=3600)


def test_an_event_becomes_an_entry_of_the_same_values() -> None:
    event = finished(hold_id="00000000-0000-0000-0000-000000000063", error_code="rate_limited", action="add-credits")
    entry = read_entry(event.encoded(), WINDOW)
    assert entry.created_at == event.occurred_at
    for field in set(Entry._fields) - {"created_at"}:
        assert getattr(entry, field) == getattr(event, field)


@pytest.mark.parametrize("field", ["method", "endpoint", "username", "ip", "dataset", "error_code", "action", "target"])
@pytest.mark.parametrize("plain", [True, False])
def test_every_text_is_cleaned_and_bounded_on_either_way(field: str, plain: bool) -> None:  # noqa: FBT001
    document = orjson.loads(finished(**{field: "a\r\nb" + "x" * 5000}).encoded())
    entry = read_entry(orjson.dumps(document if plain else document | {"rows": "10"}), WINDOW)
    text = getattr(entry, field)
    assert text.startswith("a\\x0d\\x0ab")
    assert len(text) <= 256


@pytest.mark.parametrize("event", some_finished(50, seed=12))
def test_the_quick_way_and_the_model_read_the_same(event: RequestFinished) -> None:
    assert _read_plain(event.encoded()) == _read_by_model(event.encoded())


@pytest.mark.parametrize("change", [{"rows": "10"}, {"rows": 10.0}, {"duration_ms": 12}, {"status": True}])
def test_what_is_not_plain_is_read_by_the_model(change: dict[str, Any]) -> None:
    value = orjson.dumps(orjson.loads(finished().encoded()) | change)
    assert _read_plain(value) is None
    assert read_entry(value, WINDOW).rows == 10


@pytest.mark.parametrize("field", ["event_id", "occurred_at"])
def test_an_event_without_its_identity_is_permanent(field: str) -> None:
    document = orjson.loads(finished().encoded())
    del document[field]
    with pytest.raises(Permanent, match=f"{field}: Field required"):
        read_entry(orjson.dumps(document), WINDOW)


@pytest.mark.parametrize("plain", [True, False])
def test_details_and_trace_come_along_on_either_way(plain: bool) -> None:  # noqa: FBT001
    event = finished(details={"role": {"old": "user", "new": "viewer"}}, trace_id="0af7651916cd43dd8448eb211c80319c")
    value = event.encoded() if plain else orjson.dumps(orjson.loads(event.encoded()) | {"rows": "10"})
    entry = read_entry(value, WINDOW)
    assert entry.trace_id == event.trace_id
    assert orjson.loads(entry.details or "") == event.details


@pytest.mark.parametrize("change", [{"trace_id": "no trace"}, {"trace_id": 7}, {"details": "text"}, {"details": [1]}])
def test_a_trace_or_details_of_another_shape_are_permanent(change: dict[str, Any]) -> None:
    with pytest.raises(Permanent, match="not a RequestFinished"):
        read_entry(orjson.dumps(orjson.loads(finished().encoded()) | change), WINDOW)


def test_unknown_fields_are_ignored() -> None:
    value = orjson.dumps(orjson.loads(finished().encoded()) | {"added_later": {"a": 1}})
    assert read_entry(value, WINDOW).username == "ada"


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
