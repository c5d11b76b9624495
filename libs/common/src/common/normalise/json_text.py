"""JSON values: compact, keys in their order, numbers as they can be read back."""

import orjson

from common.normalise.rejection import Normalised, Rejection


def json_text(value: str) -> Normalised:
    """Compact JSON. Integers beyond 64 bits lose their last digits, as they would in any reader of the answer."""
    written = value.strip()
    if not written:
        return None
    try:
        return orjson.dumps(orjson.loads(written)).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return Rejection("json_syntax")
