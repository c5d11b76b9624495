"""The examples of the client's README, run as they stand there."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bigdata_client import AsyncClient
from common.ids import new_id
from devstack.stack import Stack
from support.repository import ROOT

_README = ROOT / "libs" / "client" / "README.md"
_EXAMPLES = re.findall(
    r"^## \d\. (.+?)$.*?```python\n(.*?)```", _README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
_SHOWS = {
    "Query, and act on what can go wrong": "credits used",
    "A data frame, with a price that is promised before": "receipt of",
    "Page by page, or into a file of any size": "bytes in people.parquet",
    "Load a file and watch it": "1 rows loaded, 1 rejected",
    "Many questions at once": "credits left",
}


def test_there_are_five_examples_and_each_is_run() -> None:
    assert [title for title, _ in _EXAMPLES] == list(_SHOWS)


@pytest.mark.parametrize(
    ("title", "code"), _EXAMPLES, ids=[f"example-{number}" for number in range(1, len(_EXAMPLES) + 1)]
)
async def test_an_example_runs_as_it_stands_there(stack: Stack, tmp_path: Path, title: str, code: str) -> None:
    # Content of this run's own: what was loaded before would be a duplicate.
    code = code.replace("ann@example.com", f"ann-{new_id()}@example.com")
    async with AsyncClient(stack.url("gateway"), stack.status().admin_key) as admin:
        reader = await admin.create_user(f"readme-{new_id()}", credits=100, plan="unlimited")
    env = {
        **os.environ,
        "BIGDATA_URL": stack.url("gateway"),
        "BIGDATA_API_KEY": reader.api_key,
        "BIGDATA_INGEST_KEY": stack.status().admin_key,
    }
    program = [sys.executable, "-W", "error", "-c", code]
    ran = await asyncio.to_thread(
        subprocess.run, program, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert _SHOWS[title] in ran.stdout
