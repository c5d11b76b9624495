"""What a page shows comes from the API's own routes, asked inside the process as the one who is signed in.

So every rule about roles, limits and shapes stands once, in the routes, and a page can show nothing that they refuse.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request
from starlette.types import Message, Scope, Send

from common.errors import ClientError, NotFound
from common.logs import get_logger
from gateway.answers import CURSOR_HEADER
from gateway.api_keys import SIGNED_IN
from gateway.audit_trail import Trail

_log = get_logger(__name__)
_OK = 200
_COPIED = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path")


@dataclass(frozen=True)
class Answer:
    """One route's answer. `fault` says in a sentence why there is no document; a page shows it in the panel's place."""

    status: int
    document: Any
    fault: str | None
    next_cursor: str | None = None

    @property
    def ok(self) -> bool:
        return self.fault is None

    def or_refuse(self) -> Any:
        """The document of an answer without which the page makes no sense."""
        if self.status == NotFound.status:
            raise NotFound
        if self.fault is not None:
            raise PanelMissing(self.fault, status=self.status)
        return self.document


class PanelMissing(ClientError):
    """What this page is about could not be read."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status  # type: ignore[misc]  # that of the route which refused


async def ask(request: Request, path: str, **params: object) -> Answer:
    """What GET of this path answers; a parameter that is None or empty is left out."""
    query = urlencode({name: value for name, value in params.items() if value not in {None, ""}})
    raw = await _called(request, path, query, lines_max=None)
    return _answer(path, raw, _document(raw.body))


async def ask_lines(request: Request, path: str, *, most: int) -> Answer:
    """The first documents of an answer in NDJSON, however long it is: the rest is never read."""
    raw = await _called(request, path, "", lines_max=most)
    if raw.status != _OK:
        return _answer(path, raw, _document(raw.body))
    return Answer(raw.status, [_document(line) for line in raw.body.splitlines()[:most]], None)


@dataclass(frozen=True)
class _Raw:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def _called(request: Request, path: str, query: str, *, lines_max: int | None) -> _Raw:
    state = request.scope["state"]
    # A trail of its own, never written: the page's request is the one that was made, and it is in the log.
    trail = Trail()
    scope = {name: request.scope[name] for name in _COPIED if name in request.scope} | {
        "method": "GET",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "headers": [(b"accept", b"application/json")],
        "state": {"trail": trail, "request_id": state["request_id"], SIGNED_IN: state[SIGNED_IN]},
    }
    started: dict[str, Any] = {}
    body = bytearray()
    enough = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
            return
        body.extend(message.get("body", b""))
        if lines_max is not None and body.count(b"\n") >= lines_max:
            enough.set()
            await _for_ever()

    answering = asyncio.create_task(_run(request, scope, send))
    reading = asyncio.create_task(enough.wait())
    try:
        await asyncio.wait({answering, reading}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (answering, reading):
            task.cancel()
        await asyncio.gather(answering, reading, return_exceptions=True)
        if trail.leave is not None:
            trail.leave()
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in started.get("headers", ())}
    return _Raw(started.get("status", 500), headers, bytes(body))


async def _run(request: Request, scope: Scope, send: Send) -> None:
    try:
        await request.app(scope, _nothing_to_read(), send)
    except Exception as exc:  # noqa: BLE001 - answered with 500 already, or not at all; either way the panel says so
        _log.warning("a panel of the console failed", path=scope["path"], fault=repr(exc))


def _nothing_to_read() -> Callable[[], Awaitable[Message]]:
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await _for_ever()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def _for_ever() -> NoReturn:
    """Until the answer is whole: its reader never leaves."""
    await asyncio.Event().wait()
    raise AssertionError


def _document(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _answer(path: str, raw: _Raw, document: Any) -> Answer:
    if raw.status == _OK:
        return Answer(raw.status, document, None, raw.headers.get(CURSOR_HEADER.lower()))
    told = document.get("error") if isinstance(document, dict) else None
    return Answer(raw.status, document, told or f"{path} answered {raw.status}")
