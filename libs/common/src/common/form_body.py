"""HTML forms, read as strictly as JSON: the same models, the same faults."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from pydantic import BaseModel

from common.errors import InvalidRequest, UnsupportedFormat
from common.http import strict_json

FORM = "application/x-www-form-urlencoded"
_JSON = re.compile(r"(application/([\w.-]+\+)?json|text/json|text/plain|application/octet-stream)?", re.IGNORECASE)
_FIELDS_MAX = 100
# What a form can only write as text: these fields are read as JSON would write them, all others are text.
_LITERALS = frozenset({"integer", "number", "boolean", "null", "array"})


def is_form(request: Request, raw: bytes) -> bool:
    """Raises UnsupportedFormat for what is neither a form nor JSON; without a Content-Type it is JSON.

    So is an object that says it is a form: `curl -d` says so of everything.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind.lower() == FORM:
        return not raw.lstrip().startswith(b"{")
    if not _JSON.fullmatch(kind):
        raise UnsupportedFormat(f"Send application/json or {FORM}")
    return False


def form_fields(model: type[BaseModel], raw: bytes) -> dict[str, Any]:
    """The fields as a JSON body would have them: {"credits": 5}, not "5". Raises InvalidRequest."""
    properties = model.model_json_schema()["properties"]
    fields: dict[str, Any] = {}
    pairs = raw.split(b"&") if raw else []
    if len(pairs) > _FIELDS_MAX:
        raise _bad("body", f"at most {_FIELDS_MAX} fields")
    for pair in pairs:
        name, _, value = (_text(part) for part in pair.partition(b"="))
        if name in fields:
            raise _bad("body", f"the field {name[:80]!r} appears twice")
        fields[name] = _literal(name, value) if _is_literal(properties.get(name, {})) else value
    return fields


def _text(part: bytes) -> str:
    try:
        text = unquote_to_bytes(part.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise _bad("body", "a form is UTF-8") from None
    if "\x00" in text:
        raise _bad("body", "U+0000 is not allowed in text")
    return text


def _is_literal(schema: dict[str, Any]) -> bool:
    kinds = {one.get("type") for one in (schema, *schema.get("anyOf", ()))}
    return bool(kinds & _LITERALS) and "string" not in kinds


def _literal(name: str, value: str) -> Any:
    try:
        return strict_json(value.encode())
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not such a value
        raise _bad(name, "not a value of this field's type") from None


def _bad(path: str, error: str) -> InvalidRequest:
    return InvalidRequest(details=[{"path": path, "error": error}])
