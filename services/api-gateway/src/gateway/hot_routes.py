"""The busiest route, past the framework's routing and dependency injection (decision 33).

Those layers took a third of what a kept answer costs. Everything else about the route is FastAPI's: it is declared
there, documented there, and what is not exactly its method and path is answered there.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from common.errors import ClientError
from common.http import answer_bug, answer_client_error
from gateway.audit_trail import Place

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class HotRoutes:
    """Plain ASGI in front of the application. `routes` by method and path; none of them has a parameter in its path."""

    def __init__(self, app: FastAPI, routes: Mapping[tuple[str, str], Handler]) -> None:
        self._app = app
        self._routes = {key: (Place(key[1]), handler) for key, handler in routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["route"], handler = found
        scope["app"] = self._app
        request = Request(scope, receive, send)
        try:
            answer = await handler(request)
        except ClientError as error:
            answer = await answer_client_error(request, error)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the client gets the envelope and we the traceback
            answer = await answer_bug(request, fault)
        await answer(scope, receive, send)
