"""The cursor of the next page: where this one ended, of which query, and what time all pages are read as of."""

from __future__ import annotations

import hashlib
import json

import orjson

from common.errors import InvalidRequest
from gateway.query_order import Position
from gateway.query_plan import QueryPlan
from gateway.query_request import QueryRequest
from gateway.query_seals import BadSeal, Seals
from gateway.warehouse import Page

_PURPOSE = "cursor"
# What may change from page to page.
_FREE = frozenset({"cursor", "limit", "offset", "count", "max_credits", "quote_id", "wait_ms", "select", "format"})


def digest_of(ask: QueryRequest, without: frozenset[str]) -> str:
    """Of the request with its defaults: spelling them out does not make it another one."""
    # Not orjson: it refuses integers beyond 64 bits, which the planner has not seen yet.
    document = ask.model_dump(by_alias=True, exclude=set(without))
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def position_of(ask: QueryRequest, seals: Seals) -> Position | None:
    """Where the page begins. Raises InvalidRequest for a cursor that is not ours, or is of another query."""
    if ask.cursor is None:
        return None
    try:
        found = seals.open(_PURPOSE, ask.cursor)
    except BadSeal:
        raise _refused("this is not a cursor of ours; take next_cursor of the page before") from None
    if found["of"] != digest_of(ask, _FREE):
        raise _refused("this cursor belongs to another query: only limit, select and count may change between pages")
    return Position(found["as_of"], tuple(found["values"]), found["key"], found["total"])


def next_cursor(ask: QueryRequest, plan: QueryPlan, page: Page, seals: Seals) -> str | None:
    """Behind the last row of a full page; None when the page ends inside its limit or is the last one."""
    ends = page.rows < plan.limit and not plan.short
    if not page.place or ends or (plan.position is None and page.total == plan.offset + page.rows):
        return None
    now, *values, key = orjson.loads(page.place)
    position = plan.position
    content = {
        "of": digest_of(ask, _FREE),
        "as_of": position.as_of if position else now,
        "values": values,
        "key": key,
        "total": position.total if position and position.total is not None else page.total,
    }
    return seals.seal(_PURPOSE, content)


def _refused(error: str) -> InvalidRequest:
    return InvalidRequest(details=[{"path": "cursor", "error": error}])
