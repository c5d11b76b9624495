"""How figures, amounts and times are written on a page."""

from datetime import UTC, datetime
from typing import Any

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_KIB = 1024
_HUNDRED, _THOUSAND, _MILLION = 100, 1000, 1_000_000
NOTHING = "–"


def count(value: float | None) -> str:
    """1234567 → 1,234,567; what has no value is a dash."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}".rstrip("0").rstrip(".")


def credits(value: float | None) -> str:  # noqa: A001 - the filter's name on a page
    return f"{count(value)} credit{'' if value == 1 else 's'}"


def short(value: float | None) -> str:
    """For the axis of a chart: 1234567 → 1.2 M."""
    if value is None:
        return NOTHING
    for unit in ("", " k", " M", " G"):
        if abs(value) < _THOUSAND or unit == " G":
            return f"{value:.1f}".rstrip("0").rstrip(".") + unit
        value /= _THOUSAND
    raise AssertionError


def compact(value: float | None) -> str:
    """For a small tile: exact below a million, 1.4 M beyond."""
    return short(value) if value is not None and abs(value) >= _MILLION else count(value)


def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share * 100:.1f} %"


def millis(value: float | None) -> str:
    if value is None:
        return NOTHING
    if value >= _THOUSAND:
        return f"{value / _THOUSAND:,.2f} s"
    return f"{value:.0f} ms" if value >= _HUNDRED else f"{value:.1f} ms"


def size(value: float | None) -> str:
    if value is None:
        return NOTHING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIB:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= _KIB
    return f"{value:,.1f} TiB"


def seconds(value: float | None) -> str:
    """A time that is left or has passed: 95 → 1 min 35 s."""
    if value is None:
        return NOTHING
    whole = round(value)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def moment(value: Any) -> str:
    """A time of the API, in UTC and to the second."""
    at = as_time(value)
    return NOTHING if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def day(value: str) -> str:
    """A date of the API as the end of a chart's axis: 2026-11-02 → 2 Nov."""
    at = as_time(value)
    return value if at is None else f"{at.day} {at:%b}"


def ago(value: Any, now: datetime) -> str:
    at = as_time(value)
    if at is None:
        return "never"
    number, unit, *_ = seconds(max(0.0, (now - at).total_seconds())).split()
    return f"{number} {unit} ago"


def as_time(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
