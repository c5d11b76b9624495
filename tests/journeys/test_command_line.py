"""`bigdata` against a running stack that it finds by itself: one session, as a data team and an admin have it."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from bigdata_client.cli import build
from common.ids import new_id
from devstack.stack import Stack
from support.polling import until


class Bigdata:
    """In a thread: commands run a loop of their own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._env = {"BIGDATA_HOME": str(stack.folder), "BIGDATA_CONFIG": str(folder / "config.yaml"), "COLUMNS": "200"}

    async def __call__(self, *arguments: str, given: str | None = None, exit_code: int = 0) -> Result:
        shown = await asyncio.to_thread(CliRunner().invoke, build(), list(arguments), input=given, env=self._env)
        assert shown.exit_code == exit_code, (arguments, shown.output, shown.exception)
        return shown

    async def json(self, *arguments: str, given: str | None = None, exit_code: int = 0) -> Any:
        return json.loads((await self(*arguments, "--json", given=given, exit_code=exit_code)).stdout)


@pytest.fixture
def bigdata(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bigdata:
    for name in ("BIGDATA_URL", "BIGDATA_API_KEY", "BIGDATA_ADMIN_KEY", "BIGDATA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return Bigdata(stack, tmp_path)


async def test_files_are_loaded_looked_at_and_corrected(bigdata: Bigdata, tmp_path: Path) -> None:
    mark = f"cli-{new_id()}"
    for number in (1, 2):
        (tmp_path / f"part{number}.csv").write_text(f"email,city,age\n{mark}-{number}@example.com,{mark},{number}\n")
    loaded = await bigdata.json("ingest", str(tmp_path / "part*.csv"), "--dataset", "people")
    assert [(one["state"], one["rows"]["accepted"]) for one in loaded] == [("completed", 1)] * 2

    dirty = f"email,city,age\n{mark}-3@example.com,{mark},3\nno address,,4\n"
    (sent,) = await bigdata.json("ingest", "-", "-d", "people", "--name", "dirty.csv", given=dirty, exit_code=7)
    upload_id = sent["upload_id"]
    assert (await bigdata.json("uploads", "show", upload_id))["rows"]["rejected"] == 1
    assert (await bigdata.json("uploads", "watch", upload_id, exit_code=7))["state"] == "completed_with_rejects"
    assert upload_id in {one["upload_id"] for one in await bigdata.json("uploads", "list", "-n", "200")}
    assert [one["line"] for one in await bigdata.json("quarantine", "list", upload_id)] == [3]
    await bigdata("quarantine", "download", upload_id, "-f", "csv", "--to", str(tmp_path / "rejects.csv"))
    assert "no address" in (tmp_path / "rejects.csv").read_text()

    asked = ("query", "people", "-w", f"city^={mark}", "-s", "city,email,age", "--sort", "age", "-n", "10")
    found = await bigdata.json(*asked)
    assert [row["age"] for row in found["data"]] == [1, 2, 3]
    # The demo's user has no scope for personal columns.
    assert (await bigdata(*asked)).stdout.count("c***@example.com") == 3
    lines = (await bigdata(*asked, "--follow", "-o", "csv")).stdout
    assert [row["age"] for row in csv.DictReader(io.StringIO(lines))] == ["1", "2", "3"]
    assert (await bigdata(*asked, "-o", "csv")).stdout.count(mark) == 3
    parquet = tmp_path / "rows.parquet"
    await bigdata(*asked, "-o", "parquet", "--to", str(parquet))
    assert pq.read_table(parquet).column("age").to_pylist() == [1, 2, 3]
    quote = await bigdata.json(*asked, "--quote")
    assert 0 < quote["credits_min"] <= quote["credits_max"]
    counted = await bigdata.json("query", "-w", f"city={mark}", "--metric", "n=count()", "--metric", "a=avg(age)")
    assert counted["data"] == [{"n": 3, "a": 2}]

    dry = await bigdata.json("quarantine", "replay", upload_id, "--dry-run")
    assert (dry["rows"]["failed"], dry["rows"]["passed"]) == (1, 0)
    assert (await bigdata.json("uploads", "undo", upload_id, "--yes", "--deadline", "120"))["state"] == "undone"

    async def two_are_left() -> bool:
        left = await bigdata.json("query", "people", "-w", f"city={mark}", "-s", "age")
        return len(left["data"]) == 2

    await until("the undone row to be gone", two_are_left, deadline_s=60, every_s=1)


async def test_an_admin_makes_a_user_who_then_looks_around(bigdata: Bigdata) -> None:
    name = f"cli-{new_id()}"
    key = (await bigdata.json("users", "create", name, "--credits", "2"))["api_key"]
    assert (await bigdata.json("whoami", "--key", key))["username"] == name
    assert (await bigdata.json("credits", "grant", name, "3", "--reason", "a journey"))["balance"] == 5
    assert (await bigdata.json("admin", "credits", "balance", name))["balance"] == 5
    assert [one["amount"] for one in await bigdata.json("credits", "statement", name)] == [3, 2]
    granted = await bigdata.json("credits", "ledger", "--kind", "grant", "-n", "500")
    assert next((one["amount"], one["actor"]) for one in granted if one["username"] == name) == (3, "admin")
    assert (await bigdata.json("users", "list", "--search", name))[0]["credits"] == 5
    made = await bigdata.json("keys", "create", "laptop", "--key", key)
    assert made["name"] == "laptop"
    assert {one["name"] for one in await bigdata.json("keys", "list", "--key", key)} == {"first", "laptop"}
    await bigdata("keys", "revoke", made["id"], "--key", key)
    assert len(await bigdata.json("usage", "--key", key, "--days", "3")) == 3
    assert "people" in (await bigdata("datasets", "list")).stdout
    assert (await bigdata.json("datasets", "show", "flights"))["price"]["per_query"] == 1
    assert (await bigdata.json("admin", "stats"))["total_users"] > 1
    assert all(one["endpoint"] == "/v1/me" for one in await bigdata.json("admin", "logs", "--endpoint", "/v1/me"))
    await bigdata("users", "disable", name)
    assert "invalid_api_key" in (await bigdata("whoami", "--key", key, exit_code=4)).stderr
    new = await bigdata.json("users", "rotate", name)
    await bigdata("users", "enable", name)
    assert (await bigdata.json("whoami", "--key", new["api_key"]))["role"] == "user"
    assert (await bigdata.json("users", "role", name, "viewer"))["role"] == "viewer"


async def test_refusals_of_the_real_gateway_say_what_is_wrong(bigdata: Bigdata) -> None:
    poor = (await bigdata.json("users", "create", f"cli-{new_id()}", "--credits", "0"))["api_key"]
    assert "needed 1" in (await bigdata("query", "people", "--key", poor, exit_code=5)).stderr
    assert "filters.nonsense" in (await bigdata("query", "people", "-w", "nonsense=1", exit_code=4)).stderr
    assert "another key" in (await bigdata("users", "list", "--key", poor, exit_code=4)).stderr
    await bigdata("query", "people", "--url", "http://127.0.0.1:9", "--key", "k", exit_code=3)
