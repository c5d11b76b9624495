"""`bigdata reconcile` as an operator types it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import httpx
import pytest

from common.ids import new_id
from credits.reconcile import QUERIES
from devstack.reconcile import MEANINGS
from devstack.stack import Stack
from support.accounts import never_asked, open_account
from support.client import Answered

Result = subprocess.CompletedProcess[str]


async def _reconcile(*options: str, env: Mapping[str, str] | None = None) -> Result:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CREDITS_", "BIGDATA_"))}
    program = [sys.executable, "-c", "from bigdata_client.cli import main; main()", "reconcile", *options]
    return await asyncio.to_thread(
        subprocess.run,
        program,
        env={**clean, "COLUMNS": "200", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_after_queries_every_figure_is_0(stack: Stack, admin: httpx.AsyncClient, answered: Answered) -> None:
    async with open_account(stack, admin, answered) as account, account.client() as client:
        for _ in range(3):
            assert (await client.post("/v1/query", json=never_asked())).status_code == 200
        assert (await client.post("/v1/query", json={"limit": 0})).status_code == 422
        await account.settled_at(7)
    shown = await _reconcile("-C", str(stack.folder))
    assert (shown.returncode, shown.stderr) == (0, "")
    for name, meaning in MEANINGS.items():
        [line] = [line for line in shown.stdout.splitlines() if f" {name} " in line]
        assert line.split()[0] == "0"
        assert line.rstrip().endswith(meaning)


def test_every_figure_of_the_service_is_explained() -> None:
    assert MEANINGS.keys() == QUERIES.keys()


async def test_a_real_installation_is_asked_by_its_address_and_token(stack: Stack) -> None:
    installed = {"CREDITS_URL": stack.url("credits"), "CREDITS_TOKENS": f"{stack.site.secrets.credits_token}, old"}
    asked = await _reconcile("--json", env=installed)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout) == dict.fromkeys(QUERIES, 0)


async def test_a_drift_is_named_and_exits_with_1(stack: Stack) -> None:
    books = await asyncpg.connect(str(stack.status().postgres))
    user_id = new_id()
    try:
        await books.execute("INSERT INTO credits.accounts (user_id, posted) VALUES ($1, 5)", user_id)
        shown = await _reconcile("-C", str(stack.folder))
        asked = await _reconcile("-C", str(stack.folder), "--json")
    finally:
        await books.execute("DELETE FROM credits.accounts WHERE user_id = $1", user_id)
        await books.close()
    assert (shown.returncode, shown.stderr) == (1, "the books drift: accounts_unlike_entries\n")
    [line] = [line for line in shown.stdout.splitlines() if " accounts_unlike_entries " in line]
    assert line.startswith("1 ")
    assert asked.returncode == 1
    assert json.loads(asked.stdout) == dict.fromkeys(QUERIES, 0) | {"accounts_unlike_entries": 1}
    assert (await _reconcile("-C", str(stack.folder))).returncode == 0


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, "no stack in "),
        ({"CREDITS_URL": "http://127.0.0.1:1", "CREDITS_TOKENS": "t"}, "credits at http://127.0.0.1:1 does not answer"),
        ({"CREDITS_URL": "http://127.0.0.1:1"}, "CREDITS_URL is set and CREDITS_TOKENS is not"),
    ],
)
async def test_with_nothing_to_ask_it_says_so_in_one_line(tmp_path: Path, env: dict[str, str], told: str) -> None:
    refused = await _reconcile("-C", str(tmp_path / "nothing"), env=env)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (3, "", 1)
    assert refused.stderr.startswith(told)


async def test_a_wrong_token_is_nothing_to_ask_with(stack: Stack) -> None:
    refused = await _reconcile(env={"CREDITS_URL": stack.url("credits"), "CREDITS_TOKENS": "canary"})
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "answers 401" in refused.stderr
    assert "canary" not in refused.stderr
