"""Lists that come in pages: as many items as asked for, page after page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

import typer

from bigdata_client.call import Page

T = TypeVar("T")
_PAGE_MAX = 1000

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")]


def everything(page: Callable[[int, str | None], Page[T]], limit: int) -> Iterator[T]:
    """The first `limit` items of a list."""
    cursor: str | None = None
    while limit > 0:
        found = page(min(limit, _PAGE_MAX), cursor)
        yield from found.items[:limit]
        limit, cursor = limit - len(found.items), found.next_cursor
        if cursor is None:
            return
