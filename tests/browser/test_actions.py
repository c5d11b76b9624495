"""What admins do in the console, done in a browser: each page's main action, to its visible end."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from common.ids import new_id
from devstack.stack import Stack
from support.browser import PHONE, Visitor, visiting
from support.client import Answered, create_user, open_client

# Generous: the machine may be busy with everything else.
expect.set_options(timeout=60_000)


@pytest_asyncio.fixture
async def visitor(stack: Stack, browser: Browser, admin_key: str) -> AsyncIterator[Visitor]:
    """An admin at a desk, signed in."""
    async with visiting(browser, stack.url(), "doing") as one:
        await one.sign_in(admin_key)
        yield one
        assert not one.complaints


async def test_a_user_is_created_granted_given_a_new_key_and_disabled(
    visitor: Visitor, stack: Stack, answered: Answered
) -> None:
    page, name = visitor.page, f"by-hand-{new_id().hex[-12:]}"
    await visitor.open("/users")
    await page.get_by_role("button", name="Create a user").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("First credits").fill("12.5")
    await visitor.check("create-user")
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page.locator("[data-key]")).to_contain_text("bd_")
    key = await page.locator("[data-key]").inner_text()
    await visitor.check("new-key")
    await page.locator("#new-key").get_by_role("button", name="Copy").click()
    await expect(page.locator(".notice")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == key
    await page.get_by_role("button", name="Done").click()
    await page.get_by_role("link", name=name).click()
    assert key not in await page.content()
    async with open_client(stack, key, answered) as client:
        assert (await client.get("/v1/credits")).json()["balance"] == 12.5

        await page.get_by_role("button", name="Grant credits").click()
        await page.locator("#grant").get_by_label("Credits").fill("2.25")
        await page.locator("#grant").get_by_label("Reason").fill("a gift")
        await page.get_by_role("button", name="Grant", exact=True).click()
        await expect(page.get_by_role("region", name="Statement")).to_contain_text("a gift")
        await expect(page.locator(".tile").first).to_contain_text("14.75")

        await page.get_by_role("button", name="Change role").click()
        await page.locator("#role").get_by_label("Role").select_option("viewer")
        await page.get_by_role("button", name="Change", exact=True).click()
        await expect(page.locator(".tile", has_text="Role")).to_contain_text("viewer")

        await page.get_by_role("button", name="New key").click()
        await page.get_by_role("button", name="Make it").click()
        await expect(page.locator("[data-key]")).to_contain_text("bd_")
        renewed = await page.locator("[data-key]").inner_text()
        await page.get_by_role("button", name="Done").click()
        assert (await client.get("/v1/me")).status_code == 401
    async with open_client(stack, renewed, answered) as client:
        assert (await client.get("/v1/me")).json()["role"] == "viewer"

        await page.get_by_role("button", name="Disable").click()
        await page.locator("#disable").get_by_role("button", name="Disable").click()
        await expect(page.locator("h1")).to_contain_text("disabled")
        assert (await client.get("/v1/me")).status_code == 401
        await page.get_by_role("button", name="Enable").click()
        await expect(page.locator("h1")).to_contain_text("active")
        assert (await client.get("/v1/me")).status_code == 200


async def test_what_the_api_refuses_is_said_beside_the_button(visitor: Visitor, admin: httpx.AsyncClient) -> None:
    taken = f"taken-{new_id().hex[-12:]}"
    await create_user(admin, taken)
    visitor.expected |= {"409"}
    await visitor.open("/users")
    await visitor.page.get_by_role("button", name="Create a user").click()
    await visitor.page.get_by_label("Name", exact=True).fill(taken)
    await visitor.page.get_by_role("button", name="Create", exact=True).click()
    await expect(visitor.page.locator("#create-user .fault")).to_have_text("Another user has this name")
    await visitor.check("refused")
    await visitor.page.keyboard.press("Escape")
    await expect(visitor.page.locator("#create-user")).not_to_be_visible()


async def test_a_file_is_sent_followed_tried_again_and_undone(visitor: Visitor, tmp_path: Path) -> None:
    page, mark = visitor.page, new_id().hex
    rows = [f"{mark}-{i}@example.com,{'old' if i == 7 else i % 80},Ada" for i in range(5000)]
    file = tmp_path / f"{mark}.csv"
    content = "\n".join(["email,age,first_name", *rows])
    file.write_text(content)
    await visitor.open("/uploads")
    await page.get_by_label("Dataset").select_option("people")
    await page.get_by_label("File", exact=True).set_input_files(file)
    await page.get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/console/uploads/*-*")
    await expect(page.locator("h1 .badge")).to_have_text("completed with rejects")
    await expect(page.locator(".tile", has_text="Accepted")).to_contain_text("4,999")
    await expect(page.get_by_role("region", name="Rejected rows")).to_contain_text("old")
    async with page.expect_download() as loading:
        await page.get_by_role("link", name="Download as CSV").click()
    await (await loading.value).save_as(tmp_path / "rejects.csv")
    saved = (tmp_path / "rejects.csv").read_text()
    assert saved.splitlines()[0].replace('"', "").startswith("chunk_no,row_no,line,column,reason,raw")
    assert f"{mark}-7@" in saved

    # The same content once more, dropped this time.
    await visitor.open("/uploads")
    await page.get_by_label("Dataset").select_option("people")
    dropped = await page.evaluate_handle(
        "([text, name]) => { const all = new DataTransfer(); all.items.add(new File([text], name)); return all; }",
        [content, "again.csv"],
    )
    await page.locator("[data-drop]").dispatch_event("drop", {"dataTransfer": dropped})
    await expect(page.get_by_text("The same content was loaded before")).to_be_visible()
    await page.get_by_role("link", name="this upload").click()
    await expect(page.locator("h1")).to_contain_text(file.name)

    await page.get_by_role("button", name="Replay: dry run").click()
    await expect(page.locator("[data-shown]")).to_contain_text("rows failed")
    await visitor.check("dry-run")
    # The row is as bad as it was: said again, and for good this time.
    await page.get_by_role("button", name="Replay", exact=True).click()
    await expect(page.locator("[data-shown]")).to_contain_text(re.compile(r"dry run\s*false"))
    await expect(page.locator("[data-shown]")).to_contain_text(re.compile(r"rows failed\s*1"))
    await page.get_by_role("button", name="Undo this load").click()
    await page.locator("#undo").get_by_role("button", name="Undo").click()
    await expect(page.locator("h1 .badge")).to_have_text("undone")
    await expect(page.get_by_role("button", name="Load it again")).to_be_visible()
    await page.get_by_role("link", name="Uploads").first.click()
    await expect(page.get_by_role("row", name=file.name)).to_contain_text("undone")


@pytest.mark.long
async def test_a_large_file_is_watched_while_it_loads(visitor: Visitor, tmp_path: Path) -> None:
    page, mark = visitor.page, new_id().hex
    file = tmp_path / f"{mark}.csv"
    with file.open("w") as writing:
        writing.write("email,age,first_name\n")
        writing.writelines(f"{mark}-{i}@example.com,{i % 80},Ada\n" for i in range(600_000))
    await visitor.open("/uploads")
    await page.get_by_label("Dataset").select_option("people")
    await page.get_by_label("File", exact=True).set_input_files(file)
    await page.get_by_role("button", name="Upload").click()
    await page.wait_for_url("**/console/uploads/*-*")
    await expect(page.locator("[data-words]")).to_contain_text("accepted")
    await visitor.check("progress")
    await expect(page.locator("h1 .badge")).to_have_text("completed")
    await expect(page.locator(".tile", has_text="Accepted")).to_contain_text("600,000")


async def test_a_query_is_composed_run_and_copied(stack: Stack, browser: Browser, admin: httpx.AsyncClient) -> None:
    created = await create_user(admin, f"asking-{new_id().hex[-12:]}", role="admin", credits=3)
    async with visiting(browser, stack.url(), "asking") as one:
        await one.sign_in(created["api_key"])
        page = one.page
        await one.open("/query?dataset=people")
        await page.get_by_role("button", name="Add a filter").click()
        await page.get_by_label("Column", exact=True).select_option("first_name")
        await page.get_by_label("Operator").select_option("ne")
        await page.get_by_label("Value").fill(f"nobody {new_id()}")
        await page.get_by_label("Limit").fill("3")
        await page.get_by_role("button", name="Quote").click()
        await expect(page.locator("[data-quoted]")).to_contain_text("1 credit")
        await one.check("quote")
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator("[data-figures]")).to_contain_text("1 credit")
        await one.check("answer")
        await page.get_by_role("button", name="JSON").click()
        await expect(page.locator("textarea")).to_have_value(re.compile("first_name"))
        await page.get_by_role("button", name="Copy as curl").click()
        await expect(page.locator(".notice")).to_have_text("Copied")
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(f"curl -s {stack.url()}/v1/query")
        assert created["api_key"] not in copied
        await page.get_by_role("button", name="Copy as Python").click()
        script = await page.evaluate("navigator.clipboard.readText()")
        ran = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", script),
            env={**os.environ, "BIGDATA_API_KEY": created["api_key"]},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await asyncio.wait_for(ran.communicate(), 60)
        assert (ran.returncode, b"credits used" in printed) == (0, True), printed
        one.expected.add("422")
        await page.locator("textarea").fill('{"dataset": "people", "limits": 1}')
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator("form .fault")).to_contain_text("limits")
        await page.locator("textarea").fill("{")
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator("form .fault")).to_contain_text("This is not JSON")
        assert not one.complaints


@pytest.mark.usefixtures("seen")  # there are rows to count
async def test_figures_of_groups_are_asked_for_with_the_form(
    stack: Stack, browser: Browser, admin: httpx.AsyncClient
) -> None:
    created = await create_user(admin, f"counting-{new_id().hex[-12:]}", role="admin", credits=3)
    async with visiting(browser, stack.url(), "counting") as one:
        await one.sign_in(created["api_key"])
        page = one.page
        await one.open("/query?dataset=people")
        await page.get_by_role("button", name="Figures").click()
        await page.get_by_role("button", name="Add a group").click()
        await page.get_by_label("Group by").select_option("ingest_ts")
        await expect(page.get_by_label("For each")).to_have_value("day")
        await page.get_by_role("button", name="Add a figure").click()
        await page.get_by_label("Figure", exact=True).last.select_option("p95")
        await page.get_by_label("Of", exact=True).last.select_option("age")
        await page.get_by_label("Called").last.fill("oldest")
        await page.get_by_label("Order").select_option("rows DESC")
        await page.get_by_role("button", name="Run").click()
        await expect(page.locator("[data-rows] th")).to_have_text(["ingest_ts_day", "rows", "oldest"])
        await expect(page.locator("[data-rows] td").first).to_have_text(re.compile(r"\d{4}-\d\d-\d\d"))
        await one.check("figures")
        await page.get_by_role("button", name="JSON").click()
        await expect(page.locator("textarea")).to_have_value(re.compile(r"quantile\(age, 0.95\)"))
        assert not one.complaints


async def test_a_balance_is_corrected_and_found_in_the_statement_of_everybody(
    visitor: Visitor, admin: httpx.AsyncClient
) -> None:
    user = (await create_user(admin, f"paying-{new_id().hex[-12:]}", credits=3))["user"]
    page, reason = visitor.page, f"counted again {new_id()}"
    await visitor.open(f"/users/{user['id']}")
    await page.get_by_role("button", name="Set balance").click()
    await page.locator("#balance").get_by_label("Credits").fill("1.25")
    await page.locator("#balance").get_by_label("Reason").fill(reason)
    await page.get_by_role("button", name="Set", exact=True).click()
    await expect(page.get_by_role("row", name=reason)).to_contain_text("adjusted")
    await expect(page.locator(".tile").first).to_contain_text("1.25")

    await visitor.open("/credits?kind=adjustment")
    await expect(page.get_by_text("checks passed")).to_be_visible()
    corrected = page.get_by_role("row", name=reason)
    await expect(corrected).to_contain_text("-1.75")
    await expect(corrected).to_contain_text("by admin")
    await page.get_by_label("Account").fill(user["username"])
    await page.get_by_label("Kind").select_option("refund")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("Nothing fits")).to_be_visible()
    await page.get_by_label("Kind").select_option("")
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_role("region", name="Statement").locator("tbody tr")).to_have_count(2)
    await visitor.check("statement")
    await corrected.get_by_role("link", name=user["username"]).click()
    await expect(page.locator("h1")).to_contain_text(user["username"])


async def test_requests_arrive_live_and_lead_to_one_request(
    visitor: Visitor, stack: Stack, admin: httpx.AsyncClient, answered: Answered
) -> None:
    created = await create_user(admin, f"live-{new_id().hex[-12:]}", credits=2)
    name, page = created["user"]["username"], visitor.page
    await visitor.open(f"/logs?username={name}")
    await page.get_by_role("button", name="Live tail").click()
    await expect(page.locator("[data-live-state]")).to_have_text("live")
    async with open_client(stack, created["api_key"], answered) as client:
        asked = await client.post("/v1/query", json={"limit": 1})
    row = page.locator("tbody tr", has_text="/v1/query").first
    await expect(row).to_contain_text(name)
    await visitor.check("live")
    await row.get_by_role("link").first.click()
    await expect(page.locator(".facts")).to_contain_text(asked.headers["x-request-id"])
    await expect(page.locator(".facts")).to_contain_text("Trace id")


async def test_the_keyboard_and_the_switch_of_light_and_dark_are_enough(
    stack: Stack, browser: Browser, viewer_key: str
) -> None:
    async with visiting(browser, stack.url(), "keyboard", size=PHONE) as one:
        page = one.page
        await page.goto(f"{stack.url()}/console/health")
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(viewer_key)
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/console/health")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.get_by_role("button", name="Menu").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("link", name="Logs")).to_be_visible()
        await one.check("menu")
        await page.get_by_role("button", name="Theme").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        # What the browser keeps where a script could read it: how the page looks, and nothing else.
        assert await page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
            0, 0, "bigdata_theme=dark",
        ]  # fmt: skip
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("API key")).to_be_visible()
        await page.goto(f"{stack.url()}/console")
        await expect(page.get_by_label("API key")).to_be_visible()
        assert not one.complaints
