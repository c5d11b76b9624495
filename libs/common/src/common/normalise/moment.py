"""Dates and timestamps: ISO 8601, or epoch seconds or milliseconds for a timestamp. Without an offset it is UTC."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

from common.normalise.rejection import Normalised, Rejection

# DateTime64 and Date32 hold more on both sides, but toDate() and the functions built on it wrap after this day,
# silently. What cannot be grouped by day rightly is refused at the door.
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2149, 6, 6, 23, 59, 59, 999999, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# By digits: 9 to 11 are seconds (since 1973), 12 and 13 milliseconds. Fewer could be a year, 8 a day, 14 a moment.
_EPOCH_NUMBER = re.compile(r"(-?)(\d{9,13})(?:\.(\d{0,9}))?")
_SECONDS_DIGITS_MAX = 11
_COMPACT = re.compile(r"(\d{8})(\d{6})")


def timestamp(value: str) -> Normalised:
    """The moment in UTC as ClickHouse writes it: `2026-01-31 23:59:59.000000`. Finer than a microsecond is cut."""
    written = value.strip()
    if not written:
        return None
    moment = _moment(written)
    if isinstance(moment, Rejection):
        return moment
    if not EARLIEST <= moment <= LATEST:
        return Rejection("timestamp_range")
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def day(value: str) -> Normalised:
    """A day as `2026-01-31`; a timestamp is one only when it is midnight, so that no time of day is lost."""
    written = value.strip()
    if not written:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return Rejection("date_syntax")
    if moment.time() != datetime.min.time():
        return Rejection("date_syntax")
    found = moment.date()
    return found.isoformat() if EARLIEST.date() <= found <= LATEST.date() else Rejection("date_range")


def written_as(formats: Sequence[str], rule: Callable[[str], Normalised]) -> Callable[[str], Normalised]:
    """`rule` (timestamp or day) for values written in one of these formats of strptime, the first that fits, or else as
    ever. They come before ISO 8601: who declares one knows better what 01/02/2026 means.
    """

    def apply(value: str) -> Normalised:
        written = value.strip()
        for form in formats:
            try:
                return rule(datetime.strptime(written, form).isoformat())  # noqa: DTZ007 - without an offset it is UTC
            except ValueError:
                continue
        return rule(value)

    return apply


def _moment(written: str) -> datetime | Rejection:
    if epoch := _EPOCH_NUMBER.fullmatch(written):
        return _from_epoch(*epoch.groups())
    if compact := _COMPACT.fullmatch(written):
        written = f"{compact[1]}T{compact[2]}"
    try:
        moment = datetime.fromisoformat(written)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except ValueError:
        return Rejection("timestamp_syntax")
    except OverflowError:  # year 1 or 9999 and an offset that leads beyond
        return Rejection("timestamp_range")


def _from_epoch(sign: str, digits: str, fraction: str | None) -> datetime | Rejection:
    micros_per_unit = 1_000_000 if len(digits) <= _SECONDS_DIGITS_MAX else 1_000
    places = len(str(micros_per_unit)) - 1
    micros = int(digits) * micros_per_unit + int((fraction or "").ljust(places, "0")[:places])
    try:
        return _EPOCH + timedelta(microseconds=-micros if sign else micros)
    except OverflowError:
        return Rejection("timestamp_range")


def as_day(value: str) -> date:
    """The day that `day` wrote."""
    return date.fromisoformat(value)


def as_moment(value: str) -> datetime:
    """The moment that `timestamp` wrote."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC)
