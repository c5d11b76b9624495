"""What is answered before the app is asked: bytes that are no HTTP, and a connection too many.

Uvicorn answers these two itself, in plain text and without a trace. Here they are answered like every other fault, and
are in the log.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from common.clock import Clock
from common.errors import BadHeader, Unavailable
from common.http import RequestIds, answer_client_error, envelope
from common.ids import new_id
from gateway.audit_trail import AuditTrail, Spooling

_UNKNOWN_METHOD = "-"
_NO_HTTP = BadHeader("This is not an HTTP request")
_TOO_MANY = Unavailable("The gateway has as many connections as it takes, try again shortly")


def logged_protocol(spool: Spooling, clock: Clock, trusted_proxies: str) -> Callable[..., "LoggedProtocol"]:
    """What `uvicorn.Config(http=...)` makes connections with."""
    trail = AuditTrail(RequestIds(_too_many), spool, clock)
    # ASGI frameworks and uvicorn name the same protocol differently.
    proxied: Any = ProxyHeadersMiddleware(trail, trusted_hosts=trusted_proxies)  # type: ignore[arg-type]
    return partial(LoggedProtocol, trail, proxied)


class LoggedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, trail: AuditTrail, too_many: ASGIApp, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._trail = trail
        self._too_many = too_many

    def send_400_response(self, msg: str) -> None:
        """The connection ends: where a next request would begin, nobody knows."""
        del msg
        request_id = new_id()
        # Of a second request on this connection uvicorn may still have the first one's method, of none it has nothing.
        method = (self.scope or {}).get("method", _UNKNOWN_METHOD)
        state = {"request_id": request_id, "error_code": _NO_HTTP.code}
        self._trail.answered({"method": method, "client": self.client, "state": state}, _NO_HTTP.status)
        body = envelope(_NO_HTTP, request_id)
        head = (
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # Uvicorn counts connections, and with too many of them puts an app of its own in the place of ours.
        super()._start_asgi_task(cycle, app if app is self.app else self._too_many)  # type: ignore[arg-type]


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    answer = await answer_client_error(Request(scope), _TOO_MANY)
    answer.headers["connection"] = "close"
    await answer(scope, receive, send)
