"""Every page of the console, opened by an admin and by a viewer, light and dark, at a desk and on a phone.

A page fails by anything the browser writes to its console, by asking another host, by being wider than the screen, and
by what axe-core calls serious. Pictures are left in screenshots/.
"""

from itertools import product
from typing import Literal, get_args

import pytest
from playwright.async_api import Browser

from common.ids import new_id
from devstack.stack import Stack
from support.browser import DESK, PHONE, Scheme, Seen, visiting

Who = Literal["admin", "viewer"]
Screen = Literal["desk", "phone"]
# In `make test`: what differs most. `pytest -m long` opens the rest.
_FIRST = {("admin", "light", "desk"), ("viewer", "dark", "phone")}


def _combinations() -> list[object]:
    every = product(get_args(Who), get_args(Scheme), get_args(Screen))
    return [pytest.param(*one, id="-".join(one), marks=[] if one in _FIRST else pytest.mark.long) for one in every]


@pytest.mark.parametrize(("who", "scheme", "screen"), _combinations())
async def test_every_page_can_be_looked_at(
    *,
    stack: Stack,
    browser: Browser,
    seen: Seen,
    admin_key: str,
    viewer_key: str,
    who: Who,
    scheme: Scheme,
    screen: Screen,
) -> None:
    pages = {
        "overview": "",
        "users": "/users?search=looked-at",
        "user": f"/users/{seen.user_id}",
        "logs": f"/logs?user_id={seen.user_id}",
        "request": f"/logs/{seen.request_id}",
        "uploads": "/uploads",
        "upload": f"/uploads/{seen.upload_id}",
        "datasets": "/datasets",
        "dataset": "/datasets/people",
        "query": "/query",
        "credits": "/credits",
        "health": "/health",
    }
    name, size = f"{who}-{scheme}-{screen}", DESK if screen == "desk" else PHONE
    async with visiting(browser, stack.url(), name, size=size, scheme=scheme) as visitor:
        await visitor.page.goto(f"{stack.url()}/console")
        await visitor.check("sign-in")
        await visitor.sign_in(admin_key if who == "admin" else viewer_key)
        for what, path in pages.items():
            await visitor.open(path)
            await visitor.check(what)
            assert await visitor.page.locator("h1").count() == 1
            # No page of these is a page of excuses.
            assert await visitor.page.locator("main .fault:visible").count() == 0, what


async def test_what_cannot_be_shown_says_so_and_what_to_do(stack: Stack, browser: Browser, admin_key: str) -> None:
    async with visiting(browser, stack.url(), "refusals") as visitor:
        visitor.expected |= {"404", "422"}
        await visitor.sign_in(admin_key)
        for what, path, told in (
            ("not-found", "/nothing", "Start again from the overview"),
            ("bad-filter", "/logs?request_id=not-an-id", "Nothing to show here"),
            ("nobody", f"/users?search=nobody-{new_id().hex}", "No user fits"),
            ("no-request", f"/logs?request_id={new_id()}", "No request fits"),
        ):
            await visitor.page.goto(f"{stack.url()}/console{path}")
            assert told in await visitor.page.inner_text("main"), what
            await visitor.check(what)
