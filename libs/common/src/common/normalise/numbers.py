"""Numbers and truth values. Out of range is a rejection: ClickHouse itself would wrap or clamp, silently."""

import math
import re
from decimal import Decimal, InvalidOperation

from common.normalise.rejection import Normalised, Rejection

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
_DIGITS_MAX = 400  # before any arithmetic: int() of a million digits takes seconds
# A zero fraction is how many tools write whole numbers of a column with gaps.
_INTEGER = re.compile(r"([+-]?\d+)(?:\.0*)?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_A_NUMBER = "nan"
_INFINITIES = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_TRUE = frozenset({"true", "t", "yes", "y", "1", "on"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "off"})


def integer(value: str) -> Normalised:
    written = value.strip()
    if not written:
        return None
    match = _INTEGER.fullmatch(written)
    if not match:
        return Rejection("integer_syntax")
    number = int(match[1]) if len(match[1]) <= _DIGITS_MAX else INTEGER_MAX + 1
    return str(number) if INTEGER_MIN <= number <= INTEGER_MAX else Rejection("integer_range")


def floating(value: str) -> Normalised:
    """NaN is how data frames write nothing, so it is nothing. An infinity, or what only an infinity holds, is a range
    fault: no JSON answer could carry it.
    """
    written = value.strip()
    if not written or written.lower() == _NOT_A_NUMBER:
        return None
    if _INFINITIES.fullmatch(written):
        return Rejection("float_range")
    if not _FLOAT.fullmatch(written):
        return Rejection("float_syntax")
    number = float(written)
    return repr(number) if math.isfinite(number) else Rejection("float_range")


def decimal(value: str, precision: int, scale: int) -> Normalised:
    """More places than the column has are a range fault: money is not rounded on the way in."""
    written = value.strip()
    if not written:
        return None
    if not _FLOAT.fullmatch(written) or len(written) > _DIGITS_MAX:
        return Rejection("decimal_syntax")
    try:
        number = Decimal(written)
    except InvalidOperation:
        return Rejection("decimal_syntax")
    if number and (number.adjusted() >= precision - scale or number.adjusted() <= -_DIGITS_MAX):
        return Rejection("decimal_range")
    plain = f"{number:f}"
    whole, _, fraction = plain.partition(".")
    if fraction[scale:].strip("0"):
        return Rejection("decimal_range")
    return f"{whole}.{fraction[:scale].ljust(scale, '0')}" if scale else whole


def boolean(value: str) -> Normalised:
    written = value.strip().lower()
    if not written:
        return None
    if written in _TRUE:
        return "true"
    return "false" if written in _FALSE else Rejection("boolean_syntax")
