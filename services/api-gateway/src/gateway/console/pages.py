"""The pages that look: each asks the API's routes for what it shows, at once, and hands it to its template."""

from asyncio import gather
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
_LOOKED_THROUGH = 300
_DAYS = 30
_REJECTS_SHOWN = 50
Words = Annotated[str, Query(max_length=200)]


@router.get(HOME)
async def overview(page: Shown) -> Response:
    stats, loads, poorest, recent = await gather(
        page.ask("/v1/admin/stats"),
        page.ask("/v1/admin/loads", days=_DAYS),
        page.ask("/v1/admin/users", role="user", status="active", sort="credits ASC", limit=8),
        page.ask("/v1/admin/logs", limit=_LOOKED_THROUGH),
    )
    low = [user for user in poorest.document if user["credits"] < _LOW_CREDITS] if poorest.ok else []
    # Looking at the console is in the log too; here it would hide everybody else.
    others = [one for one in recent.document if not _is_looking(one["endpoint"])] if recent.ok else []
    return page.show(
        "overview.html", stats=stats, loads=loads, poorest=poorest, low=low, recent=recent, others=others[:_RECENT]
    )


def _is_looking(endpoint: str) -> bool:
    return endpoint.startswith(HOME) or endpoint.endswith("/tail")


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
    "trace_id", "user_id", "target", "from", "to",
)  # fmt: skip


@router.get(HOME + "/logs")
async def logs(page: Shown, cursor: Words = "") -> Response:
    """Filters are the route's own, whatever they are, and it is the route that refuses one."""
    typed = {name: page.request.query_params.get(name, "").strip() for name in _LOG_FILTERS}
    wanted = typed | {"from": _in_utc(typed["from"]), "to": _in_utc(typed["to"])}
    found = await page.ask("/v1/admin/logs", **wanted, cursor=cursor, limit=_LISTED)
    given = {name: value for name, value in typed.items() if value}
    asked = {name: value for name, value in wanted.items() if value}
    return page.show("logs.html", found=found, wanted=typed, given=given, asked=asked, paged=bool(cursor))


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
    return page.show("datasets.html", found=await page.ask("/v1/datasets"))


@router.get(HOME + "/datasets/{name}")
async def dataset(page: Shown, name: str) -> Response:
    found, loads = await gather(
        page.ask(f"/v1/datasets/{name}"), page.ask(f"/v1/admin/datasets/{name}/loads", days=_DAYS)
    )
    return page.show("dataset.html", dataset=found.or_refuse(), loads=loads)


@router.get(HOME + "/query")
async def query(page: Shown, dataset: Words = "people") -> Response:
    return page.show("query.html", datasets=await page.ask("/v1/datasets"), chosen=dataset)


@router.get(HOME + "/credits")
async def credits_page(page: Shown, account: Words = "", cursor: Words = "") -> Response:
    """The books of everybody, and the statement of one account: the reader's own unless another is named."""
    stats, grants, whose = await gather(
        page.ask("/v1/admin/stats"),
        page.ask("/v1/admin/logs", action="add-credits", limit=_RECENT),
        _account(page, account),
    )
    entries = await page.ask(f"/v1/admin/user/{whose['id']}/statement", limit=_LISTED, cursor=cursor) if whose else None
    return page.show(
        "credits.html", stats=stats, grants=grants, account=account, whose=whose, entries=entries, paged=bool(cursor)
    )


async def _account(page: Page, name: str) -> dict[str, Any] | None:
    if not name:
        return {"id": page.caller.user_id, "username": page.caller.username}
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
