"""ClickHouse: the engine of the chdb wheel behind the HTTP interface of devstack.clickhouse_http."""

import sys

import httpx

from devstack.part import Part, Site
from devstack.ports import HOST
from devstack.process import Command, StackError

NAME = "clickhouse"
DATABASE = "bigdata"
_ANSWER_S = 2.0


def environment(site: Site, user: str) -> dict[str, str]:
    """The settings by which a service reaches it as `user`: gateway (reads), ingest (writes), admin."""
    return {
        "CLICKHOUSE_HOST": HOST,
        "CLICKHOUSE_PORT": str(site.ports[NAME]),
        "CLICKHOUSE_USER": user,
        "CLICKHOUSE_PASSWORD": site.secrets.clickhouse[user],
    }


def url(site: Site, user: str = "admin") -> str:
    return f"http://{user}:{site.secrets.clickhouse[user]}@{HOST}:{site.ports[NAME]}"


def _command(site: Site) -> Command:
    folder = site.data(NAME)
    argv = (sys.executable, "-m", "devstack.clickhouse_http", "--folder", str(folder))
    passwords = {f"CLICKHOUSE_{user.upper()}_PASSWORD": password for user, password in site.secrets.clickhouse.items()}
    return Command(
        NAME,
        (*argv, "--host", HOST, "--port", str(site.ports[NAME])),
        folder.parent,
        site.ports[NAME],
        env={**passwords, "PYTHONSAFEPATH": "1"},
    )


async def _ready(site: Site) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as http:
            answer = await http.get(f"http://{HOST}:{site.ports[NAME]}/ping")
    except httpx.TransportError:
        return False
    return answer.text.startswith("Ok.")


async def _create_database(site: Site) -> None:
    login = {"X-ClickHouse-User": "admin", "X-ClickHouse-Key": site.secrets.clickhouse["admin"]}
    async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False, headers=login) as http:
        answer = await http.post(
            f"http://{HOST}:{site.ports[NAME]}/", content=f"CREATE DATABASE IF NOT EXISTS {DATABASE}"
        )
    if answer.is_error:
        raise StackError(f"clickhouse refused to create its database: {answer.text.strip()}")


PART = Part(NAME, _command, _ready, ports=(NAME,), after=_create_database)
