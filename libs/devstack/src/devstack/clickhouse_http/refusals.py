"""Errors as ClickHouse words them, and the HTTP status each code has there."""

from __future__ import annotations

import re
from typing import Final

SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48
QUERY_IS_TOO_LARGE: Final = 65
BAD_ARGUMENTS: Final = 36
UNKNOWN_FORMAT: Final = 73
UNKNOWN_SETTING: Final = 115
READONLY: Final = 164
TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
QUERY_WAS_CANCELLED: Final = 394
SETTING_CONSTRAINT_VIOLATION: Final = 452
ACCESS_DENIED: Final = 497
AUTHENTICATION_FAILED: Final = 516
UNKNOWN_EXCEPTION: Final = 1002

_NAMES: Final = {
    SYNTAX_ERROR: "SYNTAX_ERROR",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    QUERY_IS_TOO_LARGE: "QUERY_IS_TOO_LARGE",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    READONLY: "READONLY",
    TOO_MANY_SIMULTANEOUS_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    QUERY_WAS_CANCELLED: "QUERY_WAS_CANCELLED",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    ACCESS_DENIED: "ACCESS_DENIED",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

# The table of ClickHouse's own HTTP handler; every code not listed is 500 there too.
_BAD_REQUEST: Final = (
    6, 10, 15, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 72, 117, 167, 168, 223, 256, 321, 376, 427, 441, 675, 676,
)  # fmt: skip
_NOT_FOUND: Final = (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 137, 147, 336, 511)
_STATUS: Final = {
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    194: 401,
    159: 408,
    65: 413,
    48: 501,
    **dict.fromkeys((76, 202, 209, 439), 503),
}

_ENGINE_PREFIX = re.compile(r"^(?:Code: (\d+)\. DB::Exception: )+(?=Code: \1\. DB::Exception: )")
_ENGINE_CODE = re.compile(r"Code: (\d+)\.")
_REPEATED_TAIL = re.compile(r"(?:\. \((\w+)\) \(version [^)]*\))+\. \(\1\)\s*$")


class Refusal(Exception):
    """A request answered with an error; `str()` is the body without the version trailer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({_NAMES[code]})")
        self.code = code


class EngineError(Refusal):
    """The engine said no. Its text comes doubled ("Code: 452 … Code: 452 …"); this undoubles it."""

    def __init__(self, text: str) -> None:
        text = _REPEATED_TAIL.sub(r". (\1)", _ENGINE_PREFIX.sub("", text.strip()))
        found = _ENGINE_CODE.search(text)
        Exception.__init__(self, text if found else f"Code: {UNKNOWN_EXCEPTION}. DB::Exception: {text}")
        self.code = int(found.group(1)) if found else UNKNOWN_EXCEPTION


def http_status(code: int) -> int:
    """What ClickHouse answers for this error code; 500 for whatever its table does not name."""
    return _STATUS.get(code, 500)
