"""How rows become JSON: bare arrays, amounts in credits, and the next page's cursor in a header."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import asyncpg
import orjson
from fastapi import Query, Response
from pydantic import AfterValidator

from common.errors import InvalidRequest
from common.prices import credits as as_credits
from gateway.query_seals import BadSeal, Seals

Row: TypeAlias = Mapping[str, Any] | asyncpg.Record
CURSOR_HEADER = "X-Next-Cursor"


def _storable(text: str) -> str:
    """Postgres refuses these in the middle of a statement; a client should hear it from us."""
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("U+0000 and lone surrogates are not allowed in text")
    return text


Text = Annotated[str, Query(max_length=200), AfterValidator(_storable)]
Limit = Annotated[int, Query(ge=1, le=1000, description="rows of one page")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="X-Next-Cursor of the page before", pattern="^[A-Za-z0-9_=-]+$")
]


def public(row: Row) -> dict[str, Any]:
    """A row as the API shows it: `credits_used_mc` 1500 becomes `credits_used` 1.5."""
    return {
        name.removesuffix("_mc"): as_credits(value) if name.endswith("_mc") and value is not None else value
        for name, value in row.items()
    }


def encoded(body: Any) -> bytes:
    # The driver's UUID is a subclass, which orjson hands over.
    return orjson.dumps(body, default=str, option=orjson.OPT_UTC_Z)


def one(body: Row) -> Response:
    return Response(encoded(public(body)), media_type="application/json")


def page(rows: Iterable[Row], next_cursor: str | None = None) -> Response:
    headers = {CURSOR_HEADER: next_cursor} if next_cursor else None
    return Response(encoded([public(row) for row in rows]), headers=headers, media_type="application/json")


def cursor_of(seals: Seals, of: str, *place: Any) -> str:
    """Where the next page of this list begins. Sealed: it comes back as it left, and to the list it is of."""
    return seals.seal(f"cursor of {of}", [str(part) for part in place])


def place_of(seals: Seals, of: str, cursor: str | None, parts: int) -> list[str | None]:
    """Where a cursor continues, as text for the statement to cast. Its values are only ever parameters."""
    if cursor is None:
        return [None] * parts
    try:
        place: list[str | None] = seals.open(f"cursor of {of}", cursor)
    except BadSeal:
        raise bad_cursor() from None
    return place


def bad_cursor() -> InvalidRequest:
    return InvalidRequest(details=[{"path": "query.cursor", "error": "this is not a cursor of this list"}])
