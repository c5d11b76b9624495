"""Debian's Chromium on the console: what it complains of fails the test, and every page leaves a picture."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Request, Response, async_playwright

from support.repository import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WHY_SKIPPED = "no Chromium on this machine: apt-get install -y chromium"
PICTURES = ROOT / "screenshots"
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
Scheme = Literal["light", "dark"]
# The machine may be busy with everything else: generous, and never reached when all is well.
_WAIT_MS = 60_000


@dataclass(frozen=True)
class Seen:
    """What there is to look at."""

    user_id: str
    upload_id: str
    request_id: str


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        # Root has no sandbox to start in; the pages are our own.
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options, timeout=_WAIT_MS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visitor:
    """One person at one screen; `complaints` is what the browser wrote in its console, and what came from elsewhere."""

    page: Page
    url: str
    name: str
    complaints: list[str] = field(default_factory=list)
    expected: set[str] = field(default_factory=set)

    async def sign_in(self, key: str) -> None:
        await self.page.goto(f"{self.url}/console")
        await self.page.get_by_label("API key").fill(key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_selector("nav[aria-label=Sections]", state="attached")

    async def open(self, path: str = "") -> None:
        answer = await self.page.goto(f"{self.url}/console{path}")
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        for part in await self.page.query_selector_all("[data-part]"):
            await part.evaluate(
                "part => new Promise(done => { const look = () => part.hasAttribute('aria-busy') ? "
                "setTimeout(look, 20) : done(); look(); })"
            )

    async def picture(self, what: str) -> None:
        PICTURES.mkdir(exist_ok=True)
        await self.page.screenshot(path=PICTURES / f"{what}-{self.name}.png", full_page=True, animations="disabled")

    async def check(self, what: str) -> None:
        """A picture, no complaint so far, nothing cut off at the side, and nothing that axe-core calls serious."""
        await self.picture(what)
        assert not self.complaints, f"{what}: {self.complaints}"
        wide = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{what}: {wide} px wider than the screen"
        found = (await Axe().run(self.page, options={"resultTypes": ["violations"]})).response["violations"]
        serious = [_violation(one) for one in found if one["impact"] in {"serious", "critical"}]
        assert not serious, f"{what}: {serious}"

    def hear(self, response: Response) -> None:
        if not response.url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"asked elsewhere: {response.url}")


def _violation(one: dict[str, Any]) -> str:
    return f"{one['id']} at {[node['target'] for node in one['nodes'][:3]]}: {one['help']}"


@asynccontextmanager
async def visiting(
    browser: Browser, url: str, name: str, *, size: dict[str, int] | None = None, scheme: Scheme = "light"
) -> AsyncIterator[Visitor]:
    context = await browser.new_context(
        viewport=size or DESK,  # type: ignore[arg-type]  # two integers, as the library's own type says
        color_scheme=scheme,
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(_WAIT_MS)
    page = await context.new_page()
    visitor = Visitor(page, url, name)

    def said(kind: str, words: str) -> None:
        if kind in {"error", "warning"} and not any(one in words for one in visitor.expected):
            visitor.complaints.append(words)

    def failed(request: Request) -> None:
        # Leaving a page ends its events; everything else that fails is a fault.
        if request.resource_type != "eventsource" and "ERR_ABORTED" not in (request.failure or ""):
            visitor.complaints.append(f"{request.url}: {request.failure}")

    page.on("console", lambda message: said(message.type, f"{message.text} ({message.location.get('url')})"))
    page.on("pageerror", lambda error: said("error", str(error)))
    page.on("requestfailed", failed)
    page.on("response", visitor.hear)
    try:
        yield visitor
    finally:
        await context.close()
