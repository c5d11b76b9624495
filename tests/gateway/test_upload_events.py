"""The events of an upload, from status documents that a test hands out; no servers."""

import asyncio
from typing import Any

import orjson

from common.errors import Unavailable
from gateway.upload_events import followed
from support.audit_events import NOW, StoppedClock


def status(rows: int, *, finished: bool = False) -> dict[str, Any]:
    return {"state": "completed" if finished else "loading", "rows": rows, "finished_at": NOW if finished else None}


async def told(*found: dict[str, Any] | Exception, stopping: bool = False) -> list[bytes]:
    waiting = list(found[1:])

    async def look() -> dict[str, Any]:
        if not waiting:
            raise AssertionError("asked again after the end")
        one = waiting.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    stop = asyncio.Event()
    if stopping:
        stop.set()
    assert isinstance(found[0], dict)
    return [piece async for piece in followed(found[0], look, StoppedClock(), stop)]


def document(piece: bytes) -> Any:
    return orjson.loads(piece.partition(b"data: ")[2])


async def test_each_change_is_one_event_and_the_last_one_is_the_end() -> None:
    first, second, last = await told(status(0), status(0), status(5), status(9, finished=True))
    assert first.startswith(b"retry: 1000\n\nevent: progress\n")
    assert [document(piece)["rows"] for piece in (first, second, last)] == [0, 5, 9]
    assert last.startswith(b"event: end\n")
    assert document(last)["state"] == "completed"


async def test_of_a_finished_upload_the_end_comes_at_once() -> None:
    (only,) = await told(status(9, finished=True))
    assert b"event: end\n" in only


async def test_an_outage_of_the_status_is_a_comment_and_not_the_end() -> None:
    pieces = await told(status(0), Unavailable("not now"), status(9, finished=True))
    assert pieces[1] == b": not now\n\n"
    assert pieces[2].startswith(b"event: end\n")


async def test_a_gateway_that_stops_ends_the_stream() -> None:
    assert len(await told(status(0), stopping=True)) == 1
