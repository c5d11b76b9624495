"""The one way in: every request below /console passes here before any route sees it.

A page needs a session, else the browser is sent to sign in. What a page's scripts ask of the API goes through
/console/api/v1/...: the same routes as everybody's, called by whoever is signed in, with a CSRF token for changes.
"""

from collections.abc import Callable
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import ClientError, Forbidden, InvalidApiKey, NotFound
from common.http import answer_client_error
from gateway.api_keys import SIGNED_IN
from gateway.audit_trail import Place
from gateway.console.sessions import Session, Sessions, is_csrf_of, token_in

HOME = "/console"
SIGN_IN = f"{HOME}/sign-in"
_API = f"{HOME}/api"
_OPEN = (SIGN_IN, f"{HOME}/static/")
_READS = frozenset({"GET", "HEAD"})
# Nothing from elsewhere, nothing inline, in no frame; forms only to ourselves.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class ConsoleDoor:
    """Plain ASGI middleware inside the audit trail: what it refuses is in the log too."""

    def __init__(
        self, app: ASGIApp, sessions: Sessions, refusal_page: Callable[[Request, ClientError], Response]
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._refusal_page = refusal_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == HOME or path.startswith(HOME + "/")):
            await self._app(scope, receive, send)
            return
        send = _with_headers(send, keep=path.startswith(f"{HOME}/static/"))
        if path.startswith(_OPEN):
            await self._app(scope, receive, send)
            return
        try:
            session = await self._session(scope)
            if path.startswith(_API + "/"):
                _enter_api(scope, session, path.removeprefix(_API))
            elif session is None:
                scope["route"] = Place(f"{HOME}/*")
                await _to_sign_in(scope)(scope, receive, send)
                return
        except ClientError as refused:
            answer = await self._refused(Request(scope), refused)
            await answer(scope, receive, send)
            return
        if session is not None:
            scope["state"] |= {SIGNED_IN: session.key_sha256, "session": session}
        await self._app(scope, receive, send)

    async def _refused(self, request: Request, refused: ClientError) -> Response:
        if not request.url.path.startswith(_API + "/"):
            request.scope["route"] = Place(f"{HOME}/*")
            return self._refusal_page(request, refused)
        request.scope["route"] = Place(f"{_API}/*")
        return await answer_client_error(request, refused)

    async def _session(self, scope: Scope) -> Session | None:
        token = token_in(scope["headers"])
        # A browser keeps asking for events by itself: that is nobody being there.
        by_itself = Headers(scope=scope).get("accept", "").startswith("text/event-stream")
        return await self._sessions.find(token, noticed=not by_itself) if token else None


def _enter_api(scope: Scope, session: Session | None, path: str) -> None:
    if session is None:
        raise InvalidApiKey("You are signed out: sign in again")
    if not path.startswith("/v1/"):
        raise NotFound
    if scope["method"] not in _READS and not is_csrf_of(session, Headers(scope=scope).get("x-csrf-token", "")):
        raise Forbidden("This page is too old to change anything: load it again", details={"csrf": "X-CSRF-Token"})
    scope["path"], scope["raw_path"] = path, quote(path).encode()


def _to_sign_in(scope: Scope) -> Response:
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': wanted})}", status_code=303)


def next_page(wanted: str) -> str:
    """Where to go after signing in: a page of ours, whatever the address says."""
    return wanted if wanted.startswith(HOME) and "\\" not in wanted and ".." not in wanted else HOME


def _with_headers(send: Send, *, keep: bool) -> Send:
    # A page may show a key once, and a balance: no cache may hold it. Static files say themselves how long they live.
    headers = _HEADERS if keep else (*_HEADERS, (b"cache-control", b"no-store"))

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return sending
