"""The pages that look: each asks the API's routes for what it shows, at once, and hands it to its template."""

from asyncio import gather
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from common.errors import NotFound
from gateway.console.door import HOME
from gateway.console.frame import HtmlRoute, Page, Shown

router = APIRouter(include_in_schema=False, route_class=HtmlRoute)
_LOW_CREDITS = 10
_LISTED = 50
_RECENT = 10
_DAYS = 30
_REJECTS_SHOWN = 20
Words = Annotated[str, Query(max_length=200)]


@router.get(HOME)
async def overview(page: Shown) -> Response:
    stats, loads, poorest, recent = await gather(
        page.ask("/v1/admin/stats"),
        page.ask("/v1/admin/loads", days=_DAYS),
        page.ask("/v1/admin/users", role="user", status="active", sort="credits ASC", limit=8),
        # Looking at the console is in the log too; here it would hide everybody else.
        page.ask("/v1/admin/logs", looking="false", limit=_RECENT),
    )
    low = [user for user in poorest.document if user["credits"] < _LOW_CREDITS] if poorest.ok else []
    return page.show("overview.html", stats=stats, loads=loads, poorest=poorest, low=low, recent=recent)


@router.get(HOME + "/users")
async def users(
    page: Shown, *, search: Words = "", role: Words = "", status: Words = "", sort: Words = "", cursor: Words = ""
) -> Response:
    wanted = {"search": search, "role": role, "status": status, "sort": sort}
    found = await page.ask("/v1/admin/users", **wanted, cursor=cursor, limit=_LISTED)
    return page.show("users.html", found=found, wanted=wanted, paged=bool(cursor))


@router.get(HOME + "/users/{user_id}")
async def user(page: Shown, user_id: UUID, cursor: Words = "") -> Response:
    one = f"/v1/admin/user/{user_id}"
    found, usage, recent, statement = await gather(
        page.ask(one),
        page.ask(f"{one}/usage", days=_DAYS),
        page.ask(f"{one}/logs", limit=_RECENT),
        page.ask(f"{one}/statement", limit=_RECENT, cursor=cursor),
    )
    shown = found.or_refuse()
    # What nobody may do to themselves, nor an admin to a super admin, is not offered.
    touchable = (
        page.may_change
        and shown["id"] != str(page.caller.user_id)
        and (shown["role"] != "super_admin" or page.caller.role == "super_admin")
    )
    return page.show("user.html", user=shown, usage=usage, recent=recent, statement=statement, touchable=touchable)


_LOG_FILTERS = (
    "username", "endpoint", "method", "status", "dataset", "action", "error_code", "slower_than_ms", "request_id",
    "trace_id", "user_id", "target", "from", "to", "looking",
)  # fmt: skip


@router.get(HOME + "/logs")
async def logs(page: Shown, cursor: Words = "") -> Response:
    """Filters are the route's own, whatever they are, and it is the route that refuses one."""
    typed = _typed(page, _LOG_FILTERS)
    wanted = typed | {"from": _in_utc(typed["from"]), "to": _in_utc(typed["to"])}
    # Looking at the console is in the log too; where nothing is looked for, it would hide everybody else.
    hiding = not any(typed[name] for name in _LOG_FILTERS if name not in {"from", "to"})
    if hiding:
        wanted["looking"] = "false"
    found = await page.ask("/v1/admin/logs", **wanted, cursor=cursor, limit=_LISTED)
    given, asked = _given(typed), _given(wanted)
    return page.show(
        "logs.html", found=found, wanted=typed, given=given, asked=asked, hiding=hiding, paged=bool(cursor)
    )


def _typed(page: Page, names: Sequence[str]) -> dict[str, str]:
    return {name: page.request.query_params.get(name, "").strip() for name in names}


def _given(filters: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value}


def _in_utc(typed: str) -> str:
    """A browser's date field knows no zone; every time here is UTC."""
    return f"{typed}Z" if typed and typed[-1:] != "Z" and "+" not in typed else typed


@router.get(HOME + "/logs/{entry_id}")
async def log(page: Shown, entry_id: UUID) -> Response:
    return page.show("log.html", entry=(await page.ask(f"/v1/admin/logs/{entry_id}")).or_refuse())


@router.get(HOME + "/uploads")
async def uploads(page: Shown, cursor: Words = "") -> Response:
    found, datasets = await gather(page.ask("/v1/uploads", limit=_LISTED, cursor=cursor), page.ask("/v1/datasets"))
    return page.show("uploads.html", found=found, datasets=datasets, paged=bool(cursor))


@router.get(HOME + "/uploads/{upload_id}")
async def upload(page: Shown, upload_id: UUID) -> Response:
    found = (await page.ask(f"/v1/uploads/{upload_id}")).or_refuse()
    rejects = await page.ask_lines(f"/v1/uploads/{upload_id}/rejects", most=_REJECTS_SHOWN)
    return page.show("upload.html", upload=found, rejects=rejects)


@router.get(HOME + "/datasets")
async def datasets(page: Shown) -> Response:
    found, figures = await gather(page.ask("/v1/datasets"), page.ask("/v1/admin/datasets", days=_DAYS))
    by_name = {one["name"]: one for one in figures.document} if figures.ok else {}
    return page.show("datasets.html", found=found, figures=figures, by_name=by_name)


@router.get(HOME + "/datasets/{name}")
async def dataset(page: Shown, name: str) -> Response:
    found, loads = await gather(
        page.ask(f"/v1/datasets/{name}"), page.ask(f"/v1/admin/datasets/{name}/loads", days=_DAYS)
    )
    return page.show("dataset.html", dataset=found.or_refuse(), loads=loads)


@router.get(HOME + "/query")
async def query(page: Shown, dataset: Words = "people") -> Response:
    return page.show("query.html", datasets=await page.ask("/v1/datasets"), chosen=dataset)


_LEDGER_FILTERS = ("account", "kind", "from", "to")


@router.get(HOME + "/credits")
async def credits_page(page: Shown, cursor: Words = "") -> Response:
    """What was granted and charged, of everybody or of the account that is named, and whether the books agree."""
    typed = _typed(page, _LEDGER_FILTERS)
    stats, account = await gather(page.ask("/v1/admin/stats"), _account(page, typed["account"]))
    wanted = {"kind": typed["kind"], "from": _in_utc(typed["from"]), "to": _in_utc(typed["to"])}
    if account is not None:
        wanted["user_id"] = account["id"]
    unknown = bool(typed["account"]) and account is None
    entries = None if unknown else await page.ask("/v1/admin/statement", **wanted, limit=_LISTED, cursor=cursor)
    return page.show(
        "credits.html", stats=stats, wanted=typed, given=_given(typed), entries=entries, paged=bool(cursor)
    )


async def _account(page: Page, name: str) -> dict[str, Any] | None:
    """The user of this name, else the first whose name contains it."""
    if not name:
        return None
    found = await page.ask("/v1/admin/users", search=name, sort="username ASC", limit=_LISTED)
    users: list[dict[str, Any]] = found.document if found.ok else []
    return next((one for one in users if one["username"].lower() == name.lower()), users[0] if users else None)


@router.get(HOME + "/parts/reconcile")
async def reconciled(page: Shown) -> Response:
    """Loaded into the credits page after it stands: every row of the books is read for it."""
    return page.show("part_reconcile.html", found=await page.ask("/v1/admin/reconcile"))


@router.get(HOME + "/health")
async def health(page: Shown) -> Response:
    return page.show("health.html")


@router.get(HOME + "/parts/health")
async def health_now(page: Shown) -> Response:
    state, topics = await gather(page.ask("/v1/health"), page.ask("/v1/admin/topics"))
    return page.show("part_health.html", state=state, topics=topics)


@router.get(HOME + "/{_rest:path}")
async def nothing_here(_page: Shown, _rest: str) -> Response:
    raise NotFound("There is no such page")
