"""What every page has: who looks, what they may change, the layout around it, and errors as pages."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from common.errors import ClientError, InvalidApiKey, InvalidRequest
from gateway.api_keys import Caller, caller_with
from gateway.console import figures
from gateway.console.asking import Answer, ask, ask_lines
from gateway.console.charts import bars
from gateway.console.door import HOME, SIGN_IN
from gateway.console.sessions import clear_cookie
from gateway.console.static_files import address_of
from gateway.roles import ADMIN_READERS, ADMINS
from gateway.wiring import gateway_of

THEME_COOKIE = "bigdata_theme"
_SECTIONS = (
    ("overview", HOME, "Overview"),
    ("users", f"{HOME}/users", "Users"),
    ("logs", f"{HOME}/logs", "Logs"),
    ("uploads", f"{HOME}/uploads", "Uploads"),
    ("datasets", f"{HOME}/datasets", "Datasets"),
    ("query", f"{HOME}/query", "Query"),
    ("credits", f"{HOME}/credits", "Credits"),
    ("health", f"{HOME}/health", "Health"),
)

_templates = Environment(
    loader=PackageLoader("gateway.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    name: getattr(figures, name)
    for name in ("count", "compact", "credits", "percent", "millis", "size", "seconds", "moment", "ago")
}
_templates.globals |= {"static": address_of, "bars": bars, "home": HOME, "sections": _SECTIONS}


@dataclass(frozen=True)
class Page:
    """One page on its way to one reader."""

    request: Request
    caller: Caller

    async def ask(self, path: str, **params: object) -> Answer:
        return await ask(self.request, path, **params)

    async def ask_lines(self, path: str, *, most: int) -> Answer:
        return await ask_lines(self.request, path, most=most)

    @property
    def may_change(self) -> bool:
        """Whether to draw the buttons; what may be done is decided by the routes that they call."""
        return self.caller.role in ADMINS and "admin" in self.caller.scopes

    @property
    def may_load(self) -> bool:
        return "ingest" in self.caller.scopes

    @property
    def may_query(self) -> bool:
        return "query" in self.caller.scopes

    @property
    def now(self) -> datetime:
        return gateway_of(self.request).clock.now()

    def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        return render(self.request, template, status=status, page=self, now=self.now, **values)


async def _page(request: Request, caller: Annotated[Caller, Depends(caller_with("read", roles=ADMIN_READERS))]) -> Page:
    return Page(request, caller)


Shown = Annotated[Page, Depends(_page)]


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    session = request.scope["state"].get("session")
    theme = request.cookies.get(THEME_COOKIE)
    text = _templates.get_template(template).render(
        theme=theme if theme in {"light", "dark"} else None, csrf=session.csrf if session else "", **values
    )
    return HTMLResponse(text, status_code=status)


class HtmlRoute(APIRoute):
    """A refusal is a page here, and a session whose key no longer works leads back to the sign-in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except InvalidApiKey:
                answer = RedirectResponse(f"{SIGN_IN}?ended=1", status_code=303)
                clear_cookie(answer)
                return answer
            except ClientError as refused:
                return refusal_page(request, refused)
            except RequestValidationError:
                return refusal_page(
                    request, InvalidRequest("This address does not say what to show: go back and try again")
                )

        return handled


def refusal_page(request: Request, refused: ClientError) -> Response:
    request.state.error_code = refused.code
    answer = render(
        request,
        "refusal.html",
        status=refused.status,
        told=str(refused),
        code=refused.code,
        request_id=request.state.request_id,
        page=None,
    )
    answer.headers.update(refused.headers())
    return answer
