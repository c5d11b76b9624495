"""Signing in with a key, and out again."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from common.errors import ClientError, Forbidden, InvalidApiKey, TooLarge
from common.json_body import read_limited
from gateway.audit_trail import trail_of
from gateway.console.door import HOME, SIGN_IN, next_page
from gateway.console.forms import form_fields
from gateway.console.frame import HtmlRoute, render
from gateway.console.sessions import Session, Sessions, clear_cookie, is_csrf_of, set_cookie
from gateway.roles import ADMIN_READERS, Caller, require_scope
from gateway.wiring import Gateway, gateway_of

router = APIRouter(include_in_schema=False, route_class=HtmlRoute)
_FORM_BYTES_MAX = 8192
_ENDED = "Your session has ended. Sign in again to go on."


@router.get(SIGN_IN)
async def sign_in_page(request: Request) -> Response:
    wanted = request.query_params.get("next", HOME)
    told = _ENDED if "ended" in request.query_params else None
    return render(request, "sign_in.html", next=next_page(wanted), told=told, fault=None)


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    """A key of an admin or viewer opens a session; the key itself is kept nowhere."""
    gateway, trail = gateway_of(request), trail_of(request)
    trail.action = "console-sign-in"
    wanted = HOME
    try:
        _require_same_site(request)
        fields = form_fields(await read_limited(request, _FORM_BYTES_MAX))
        wanted = next_page(fields.get("next", HOME))
        caller = await _known(fields.get("key", ""), request, gateway)
        trail.caller = caller
        _require_console(caller)
        token = await sessions_of(gateway).open(caller.key_id)
    except TooLarge:
        return _again(request, InvalidApiKey("This is not a key"), wanted)
    except ClientError as refused:
        return _again(request, refused, wanted)
    answer = RedirectResponse(wanted, status_code=303)
    set_cookie(answer, request, token, gateway.settings.console_session_s)
    return answer


@router.post(HOME + "/sign-out")
async def sign_out(request: Request) -> Response:
    session: Session = request.state.session
    fields = form_fields(await read_limited(request, _FORM_BYTES_MAX))
    if not is_csrf_of(session, fields.get("csrf", "")):
        raise Forbidden("This page is too old to sign out: load it again")
    await sessions_of(gateway_of(request)).end(session.token)
    answer = RedirectResponse(SIGN_IN, status_code=303)
    clear_cookie(answer)
    return answer


def sessions_of(gateway: Gateway) -> Sessions:
    settings = gateway.settings
    return Sessions(gateway.postgres, idle_s=settings.console_idle_s, longest_s=settings.console_session_s)


async def _known(key: str, request: Request, gateway: Gateway) -> Caller:
    try:
        return await gateway.api_keys.caller(key.strip().encode("utf-8", "replace"))
    except InvalidApiKey:
        gateway.rate_limit.note_bad_key(request.client.host if request.client else "")
        raise InvalidApiKey("This key is not valid: it may be mistyped, revoked or expired") from None


def _require_console(caller: Caller) -> None:
    if caller.role not in ADMIN_READERS:
        raise Forbidden("The console is for admins and viewers; this key is a client's. Use it with the API")
    require_scope(caller, "read")


def _require_same_site(request: Request) -> None:
    """Nobody is signed in by another site's form. Browsers say where a form is from; other clients say nothing."""
    if request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise Forbidden("Sign in on this page itself")


def _again(request: Request, refused: ClientError, wanted: str) -> Response:
    trail_of(request).error_code = refused.code
    answer = render(request, "sign_in.html", status=refused.status, next=wanted, told=None, fault=str(refused))
    answer.headers.update(refused.headers())
    return answer
