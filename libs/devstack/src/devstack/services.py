"""The four services, each with the settings it needs and no others: migrate, then serve."""

import asyncio
import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from devstack import bucket, clickhouse, kafka, postgres, redis
from devstack.part import Part, Site
from devstack.ports import HOST
from devstack.process import Command, StackError, log_tail_of

GATEWAY = "gateway"
_ANSWER_S = 2.0
_STOP_S = 30.0
_MIGRATE_S = 60.0


@dataclass(frozen=True)
class Service:
    """`module` is what `python -m` runs; it is the Postgres role and schema too."""

    name: str
    module: str
    needs: tuple[str, ...]
    environment: Callable[[Site, str], dict[str, str]]
    serves: bool = False


def url(site: Site, name: str = GATEWAY) -> str:
    return f"http://{HOST}:{site.ports[name]}"


def ops_url(site: Site, name: str) -> str:
    return f"http://{HOST}:{site.ports[_ops(name)]}"


def part(service: Service, copy: str | None = None, extra: dict[str, str] | None = None) -> Part:
    """A further copy has its own name, ports and spool; only the first one migrates."""
    name = copy or service.name
    return Part(
        name=name,
        command=partial(_command, service, name, extra or {}),
        ready=partial(_ready, name),
        ports=(name, _ops(name)) if service.serves else (_ops(name),),
        needs=service.needs,
        before=partial(_prepare, service, name, copy is None),
    )


def _ops(name: str) -> str:
    return f"{name}-ops"


def _command(service: Service, name: str, extra: dict[str, str], site: Site) -> Command:
    port = site.ports[name if service.serves else _ops(name)]
    argv = (sys.executable, "-m", service.module, "serve")
    env = {**_environment(service, name, site), **extra}
    return Command(name, argv, site.folder, port, env=env, stop_s=_STOP_S)


def _environment(service: Service, name: str, site: Site) -> dict[str, str]:
    """Started in the data folder, so a `.env` there, and no other, counts."""
    env = {
        "PYTHONSAFEPATH": "1",
        # As in the images: glibc otherwise keeps what threads free, for each of them (ingest-worker: 40 to 70 MiB).
        "MALLOC_ARENA_MAX": "2",
        "OPS_HOST": HOST,
        "OPS_PORT": str(site.ports[_ops(name)]),
        "POSTGRES_URL": postgres.dsn(site, service.module),
        "MIGRATE_POSTGRES_URL": postgres.dsn(site, f"{service.module}_owner"),
        "KAFKA_BROKERS": kafka.brokers(site),
        # The local broker answers an empty fetch at once.
        "KAFKA_IDLE_PAUSE_S": "0.02" if site.kafka == "local" else "0",
        **service.environment(site, name),
    }
    if service.serves:
        env |= {"SERVER_HOST": HOST, "SERVER_PORT": str(site.ports[name])}
    return env | _configuration()


def _configuration() -> dict[str, str]:
    """The configs folder of this checkout unless the caller's environment names another."""
    here = [Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents]
    folder = next((f / "configs" for f in here if (f / "configs" / "datasets").is_dir()), Path.cwd() / "configs")
    return {
        "CONFIG_FILE": str(Path(os.environ.get("CONFIG_FILE", folder / "config.yaml")).resolve()),
        "DATASETS_FOLDER": str(Path(os.environ.get("DATASETS_FOLDER", folder / "datasets")).resolve()),
    }


def _spool(site: Site, name: str) -> dict[str, str]:
    return {"SPOOL_FOLDER": str(site.folder / "spool" / name)}


def _gateway(site: Site, name: str) -> dict[str, str]:
    return {
        **clickhouse.environment(site, "gateway"),
        **_spool(site, name),
        "REDIS_URL": redis.url(site),
        "BUCKET_URL": bucket.url(site),
        "CREDITS_URL": url(site, "credits"),
        "CREDITS_TOKENS": site.secrets.credits_token,
        "SIGNING_KEYS": site.secrets.signing_key,
        "ADMIN_API_KEY": hashlib.sha256(site.secrets.admin_key.encode()).hexdigest(),
    }


def _credits(site: Site, _: str) -> dict[str, str]:
    return {"CREDITS_TOKENS": site.secrets.credits_token}


def _ingest(site: Site, name: str) -> dict[str, str]:
    return {
        **_place_in_group(name, "ingest-worker"),
        **clickhouse.environment(site, "ingest"),
        **_spool(site, name),
        "BUCKET_URL": bucket.url(site),
    }


def _audit(_: Site, name: str) -> dict[str, str]:
    return _place_in_group(name, "audit-logger")


def _place_in_group(name: str, first: str) -> dict[str, str]:
    """This broker never evicts a killed member: a fixed id lets its restart take the place over at once.

    Further copies stay dynamic, so that they leave the group when they stop.
    """
    return {"KAFKA_INSTANCE_ID": name} if name == first else {}


async def _prepare(service: Service, name: str, migrates: bool, site: Site) -> None:  # noqa: FBT001 - bound by partial
    (site.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
    if migrates:
        await _migrate(service, site)


async def _migrate(service: Service, site: Site) -> None:
    migration = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", service.module, "migrate"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=site.folder,
        env={**os.environ, **_environment(service, service.name, site)},
    )
    try:
        output, _ = await asyncio.wait_for(migration.communicate(), _MIGRATE_S)
    except TimeoutError:
        raise StackError(f"{service.name}: its migration takes longer than {_MIGRATE_S:.0f} s") from None
    finally:
        if migration.returncode is None:
            migration.kill()
            await migration.wait()
    with site.log(service.name).open("ab") as log:
        log.write(output)
    if migration.returncode:
        raise StackError(f"{service.name}: its migration failed; {log_tail_of(site.log(service.name))}")


async def _ready(name: str, site: Site) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as http:
            answer = await http.get(f"{ops_url(site, name)}/readyz")
    except httpx.TransportError:
        return False
    return answer.is_success


SERVICES = {
    service.name: service
    for service in (
        Service("credits", "credits", ("postgres", "kafka"), _credits, serves=True),
        Service(GATEWAY, "gateway", ("postgres", "redis", "kafka", "clickhouse"), _gateway, serves=True),
        Service("ingest-worker", "ingest", ("postgres", "kafka", "clickhouse"), _ingest),
        Service("audit-logger", "audit", ("postgres", "kafka"), _audit),
    )
}


async def create_demo_user(site: Site) -> str:
    """Give a user named demo 100 credits; returns its key, which is shown only this once."""
    login = {"x-api-key": site.secrets.admin_key}
    async with httpx.AsyncClient(timeout=10, trust_env=False, headers=login) as http:
        for username in ("demo", f"demo-{os.urandom(2).hex()}"):  # the second when a first try's answer was lost
            answer = await http.post(f"{url(site)}/v1/admin/create-user", json={"username": username, "credits": 100})
            if answer.is_success:
                return str(answer.json()["api_key"])
            if answer.status_code != httpx.codes.CONFLICT:
                break
    raise StackError(f"gateway refused to create the demo user: {answer.status_code} {answer.text.strip()}")
