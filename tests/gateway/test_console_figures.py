from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Request, Response

from gateway.console import figures
from gateway.console.charts import bars
from gateway.console.door import next_page
from gateway.console.frame import _templates
from gateway.console.sessions import set_cookie, token_in


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figures.count(1234567), "1,234,567"),
        (figures.count(0.001), "0.001"),
        (figures.count(None), "–"),
        (figures.short(1_250_000), "1.2 M"),
        (figures.short(999), "999"),
        (figures.compact(999_999), "999,999"),
        (figures.compact(1_436_585), "1.4 M"),
        (figures.percent(0.0512), "5.1 %"),
        (figures.millis(12.34), "12.3 ms"),
        (figures.millis(2500), "2.50 s"),
        (figures.size(1536), "1.5 KiB"),
        (figures.size(3 << 40), "3.0 TiB"),
        (figures.seconds(95), "1 min 35 s"),
        (figures.seconds(90_000), "1 d 1 h"),
        (figures.moment("2026-11-22T10:00:00+02:00"), "2026-11-22 08:00:00"),
        (figures.moment("yesterday"), "–"),
        (figures.ago(None, datetime(2026, 1, 1, tzinfo=UTC)), "never"),
        (figures.ago("2025-12-31T23:58:00Z", datetime(2026, 1, 1, tzinfo=UTC)), "2 min ago"),
    ],
)
def test_figures_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected


def test_a_chart_says_every_day_and_all_of_them_in_words() -> None:
    days = [{"date": "2026-01-01", "n": 4}, {"date": "2026-01-02", "n": 0}, {"date": "2026-01-03", "n": 1}]
    drawn = str(bars(days, "n", "Requests"))
    assert drawn.count("<title>") == 3
    assert "Requests by day, 2026-01-01 to 2026-01-03: 5 in all, most on 2026-01-01" in drawn
    assert "style=" not in drawn
    assert "No requests in these 1 days" in str(bars(days[1:2], "n", "Requests"))
    assert "&lt;b&gt;" in str(bars([{"date": "<b>", "n": 1}], "n", "Requests"))


@pytest.mark.parametrize("wanted", ["https://x.example", "//x.example", "/v1", "/console\\x", "/console/../v1", ""])
def test_only_the_console_itself_can_be_the_next_page(wanted: str) -> None:
    assert next_page(wanted) == "/console"
    assert next_page("/console/users?role=user") == "/console/users?role=user"


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_the_cookie_stays_on_tls_where_there_is_tls(scheme: str, secure: bool) -> None:  # noqa: FBT001 - a parameter
    answer = Response()
    scope = {"type": "http", "scheme": scheme, "path": "/", "query_string": b"", "headers": [], "server": ("x", 1)}
    set_cookie(answer, Request(scope), "token", 60)
    assert ("Secure" in answer.headers["set-cookie"].split("; ")) is secure


@pytest.mark.parametrize("cookie", [b"", b"bigdata_console=", b"\xff=\xff; a", b"a=b; \x00", b"other=1"])
def test_a_cookie_that_says_nothing_is_no_session(cookie: bytes) -> None:
    assert token_in([(b"cookie", cookie)]) is None
    assert token_in([(b"cookie", b"other=1; bigdata_console=abc")]) == "abc"


@pytest.mark.parametrize("trace_id", ["4bf92f3577b34da6a3ce929d0e0e4736", None])
def test_one_request_is_shown_with_its_trace(trace_id: str | None) -> None:
    names = ("user_id", "username", "details")
    entry: dict[str, Any] = dict.fromkeys(names) | {
        "created_at": "2026-01-01T00:00:00Z",
        "request_id": "r",
        "trace_id": trace_id,
    }
    entry |= {"method": "GET", "endpoint": "/v1/me", "status": 200, "duration_ms": 1, "rows": 0, "credits_used": 0}
    page = _templates.get_template("log.html").render(
        entry=entry, now=datetime(2026, 1, 2, tzinfo=UTC), page=None, theme=None, csrf=""
    )
    assert (f"/console/logs?trace_id={trace_id}" in page) is (trace_id is not None)
    assert ("tracing was off" in page) is (trace_id is None)
