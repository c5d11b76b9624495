"""A stack restored from its own backup has the same rows in every table, the same objects, and goes on working."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from devstack.backup import backup, restore
from devstack.postgres import dsn
from devstack.process import StackError
from devstack.reconcile import ask, books_of_stack, drifts
from devstack.stack import Stack
from support import uploads
from support.client import create_user, open_client
from support.stack import running_stack

_TABLES = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname IN ('gateway', 'credits', 'ingest', 'audit')
"""
PEOPLE = b"email,first_name,country\nann@example.com,Ann,IN\nbob@example.com,Bob,DE\nnot an address,,\n"


@pytest_asyncio.fixture
async def original() -> AsyncIterator[Stack]:
    async with running_stack() as stack:
        yield stack


async def postgres_of(stack: Stack) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn(stack.site, role="postgres"))
    try:
        names = [row["name"] for row in await connection.fetch(_TABLES)]
        return {
            name: await connection.fetchval(
                f"SELECT count(*)::text || ':' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') "  # noqa: S608
                f"FROM {name} t"
            )
            for name in names
        }
    finally:
        await connection.close()


async def clickhouse_of(stack: Stack) -> dict[str, str]:
    login = {"X-ClickHouse-User": "admin", "X-ClickHouse-Key": stack.site.secrets.clickhouse["admin"]}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stack.site.ports['clickhouse']}", headers=login, timeout=30
    ) as http:

        async def one(query: str) -> str:
            answer = await http.post("/", content=query)
            assert answer.is_success, answer.text
            return answer.text.strip()

        names = (
            await one("SELECT name FROM system.tables WHERE database = 'bigdata' AND engine LIKE '%MergeTree'")
        ).split()
        return {
            name: await one(f"SELECT count(), sum(cityHash64(*)) FROM (SELECT * FROM bigdata.{name})")  # noqa: S608
            for name in names
        }


def objects_of(stack: Stack) -> dict[str, bytes]:
    folder = Path(stack.status().bucket.removeprefix("file://"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_restored_stack_is_the_same_and_goes_on(original: Stack, tmp_path: Path) -> None:
    async with open_client(original, original.status().admin_key, set()) as admin:
        user = await create_user(admin, "restored", credits=10)
        sent = await uploads.send(original, PEOPLE, "people")
        assert (await uploads.ended(original, sent))["state"] == "completed_with_rejects"
        async with open_client(original, user["api_key"], set()) as client:
            assert (await client.post("/v1/query", json={"filters": {"country": "IN"}})).status_code == 200
    await original.down()
    await original.up()  # stopped once, so that everything asynchronous has been sent
    await original.stop("gateway")
    await original.stop("audit-logger")
    before = await postgres_of(original), await clickhouse_of(original), objects_of(original)
    archive = tmp_path / "stack.tar"
    assert await backup(original, archive) > 0
    assert archive.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StackError, match="exists"):
        await backup(original, archive)
    with pytest.raises(StackError, match="not empty"):
        restore(archive, original.folder)

    # Beside the original: root's PostgreSQL could not pass through pytest's own folder.
    second = restore(archive, original.folder.with_name(original.folder.name + "-restored"))
    try:
        await second.up(servers_only=True)
        assert await postgres_of(second) == before[0]
        assert await clickhouse_of(second) == before[1]
        assert objects_of(second) == before[2]
        await second.up()
        async with open_client(second, user["api_key"], set()) as client:
            answer = await client.post("/v1/query", json={"filters": {"country": "DE"}})
            assert answer.status_code == 200
            assert answer.json()["metadata"]["credits_remaining"] == 8
        assert not drifts(ask(books_of_stack(second)))
    finally:
        await second.down(purge=True)
