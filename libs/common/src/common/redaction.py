"""What may stand in the log's text fields. They hold what clients sent: names, routes, targets.

The gateway cleans what it spools, and audit-logger cleans again what it reads: other producers may write to the topic.
"""

import re
from typing import Any

import orjson

_CUT = "…"
_CUT_DETAILS = '{"cut":true}'
_DETAIL_CHARS_MAX = 256
_DETAILS_BYTES_MAX = 4096
_DEPTH_MAX = 4

# C0, DEL, C1, line and paragraph separators, marks that turn text around, and halves of pairs, which no store takes: a
# log line stays one line and reads as it is stored, in a terminal too.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A key, its hash, a bearer token, the password in an address: whoever put it there, it does not stay.
_SECRET = re.compile(
    r"\bbd_[A-Za-z0-9_-]{16,}|\b[0-9a-fA-F]{64}\b|\b(?:bearer|basic)\s+\S+|(?<=://)[^\s/@]*:[^\s/@]*(?=@)",
    re.IGNORECASE,
)
_HIDDEN = "[hidden]"


def clean(text: str, chars_max: int) -> str:
    """Secrets hidden, control characters escaped, cut to the limit."""
    # Bounded before it is searched: a megabyte of name costs no more than a long one.
    text = _CONTROL.sub(_escaped, _SECRET.sub(_HIDDEN, text[: 4 * chars_max]))
    return text if len(text) <= chars_max else text[: chars_max - 1] + _CUT


def clean_details(details: dict[str, Any]) -> str:
    """As JSON, every text in it clean. What is larger than an admin's action has to say is not kept."""
    try:
        kept = orjson.dumps(cleaned(details))
    except TypeError:  # a number beyond 64 bits
        return _CUT_DETAILS
    return kept.decode() if len(kept) <= _DETAILS_BYTES_MAX else _CUT_DETAILS


def cleaned(value: Any, depth: int = _DEPTH_MAX) -> Any:
    """The same with every text in it clean, down to a depth that no admin's action has."""
    if isinstance(value, str):
        return clean(value, _DETAIL_CHARS_MAX)
    if not isinstance(value, dict | list):
        return value
    if not depth:
        return _CUT
    if isinstance(value, list):
        return [cleaned(item, depth - 1) for item in value]
    return {clean(str(key), _DETAIL_CHARS_MAX): cleaned(item, depth - 1) for key, item in value.items()}


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte
