"""The installation of docker-compose.yml, as `STACK=compose` starts it: real containers, on this machine alone.

Each data folder has an installation of its own: secrets, ports and a project name. deploy/compose/loopback.yaml shows
its servers on loopback, so that tests and tools reach them as they reach the local stack's.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import replace

import httpx

from devstack import compose_command, ports, services, state
from devstack.compose_command import Container
from devstack.part import Site
from devstack.process import Record, StackError
from devstack.stack import Progress, Report, Stack, no_report
from devstack.status import ProcessStatus, Status, addresses

BROKER = state.COMPOSE
# As `Site` names them; deploy/compose/loopback.yaml has them in capitals.
PORTS = ("gateway", "gateway-ops", "credits", "credits-ops", "ingest-worker-ops", "audit-logger-ops", "proxy")
STORES = ("postgres", "redis", "kafka", "clickhouse", "minio")
# What `--servers-only` starts: the stores, their roles, topics and bucket.
_SERVERS = (*STORES, "bucket", "prepare")
BUCKET = "s3://bigdata"
# Names images that are there already: nothing is built.
_TAG = "BIGDATA_TAG"
_READY_S = 120.0
_POLL_S = 0.5


class ComposeStack(Stack):
    """A Stack whose parts are containers: docker-compose.yml gives them their settings, nobody else can."""

    @property
    def _broker(self) -> str:
        return BROKER

    @property
    def project(self) -> str:
        return f"bigdata-{self._digest.hex()[:8]}"

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(str(self.folder).encode()).digest()

    def environment(self, name: str) -> dict[str, str]:
        raise StackError(f"{name} has the settings that docker-compose.yml gives it")

    async def up(
        self,
        *,
        servers_only: bool = False,
        ports_wanted: Mapping[str, int] | None = None,
        kafka: str | None = None,
        report: Report = no_report,
    ) -> None:
        """Build and start everything, in the order of docker-compose.yml. Raises StackError; what runs goes on."""
        if kafka not in (None, BROKER):
            raise StackError("docker-compose.yml has Apache Kafka: there is no other broker to choose")
        await asyncio.to_thread(compose_command.check_engine)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with state.locked(self.folder):
            self._settle(ports_wanted or {})
            began = time.monotonic()
            # It waits for the health of each before what needs it.
            build = () if _TAG in os.environ else ("--build",)
            await self._compose("up", "--detach", *build, *(_SERVERS if servers_only else ()))
            report(Progress("containers", time.monotonic() - began))
            if not servers_only:
                await self._answers()
                if self._state.user_key is None:
                    self._state.user_key = await services.create_demo_user(self.site)
                    self._save()

    async def down(self, *, purge: bool = False) -> list[str]:
        if not self.exists():
            return []
        await self._compose("down", *(("--volumes",) if purge else ()))
        if purge:
            self._purge()
        return []

    def status(self) -> Status:
        self._reload()
        found = compose_command.containers(self.project, self._variables()) if self.exists() else []
        processes = {one.service: self._process(one) for one in found}
        return replace(
            addresses(self.site, self._state, {one.service for one in found}), bucket=BUCKET, processes=processes
        )

    async def start(self, name: str, env: Mapping[str, str] | None = None) -> Record:
        self._refuse_settings(env)
        await self._compose("start", name)
        await self._answers()
        return self._record(name)

    async def stop(self, name: str) -> None:
        await self._compose("stop", name)

    async def kill(self, name: str, number: int = 9) -> None:
        await self._compose("kill", "--signal", str(int(number)), name)

    async def start_extra(self, name: str, index: int = 2, env: Mapping[str, str] | None = None) -> Record:
        del index, env
        raise StackError(f"a second {name} beside the containers is not supported: use the local stack")

    def _settle(self, wanted: Mapping[str, int]) -> None:
        self._reload()
        if self._state.kafka not in (None, BROKER):
            raise StackError(f"{self.folder} has a local stack: name another folder for docker compose")
        if self._state.kafka is None:
            self._state.kafka = BROKER
            owners = {f"{role}_owner": self._state.secrets.postgres["gateway_owner"] for role in state.ROLES}
            self._state.secrets.postgres.update(owners)  # one variable for all of them in docker-compose.yml
        if unknown := wanted.keys() - {*PORTS, *STORES}:
            raise StackError(f"no part has a port named {min(unknown)}; ports: {', '.join((*PORTS, *STORES))}")
        self._state.ports.update(wanted)
        for name in (*PORTS, *STORES):
            if name not in self._state.ports:
                self._state.ports[name] = ports.choose(self._state.ports.values())
        self._save()

    async def _compose(self, *arguments: str) -> str:
        return await asyncio.to_thread(compose_command.run, self.project, self._variables(), *arguments)

    def _variables(self) -> dict[str, str]:
        # Beside docker-compose.yml's own 172.30.91, so that an installation and this one can share an engine.
        return variables(self.site) | {"NETWORK_PREFIX": f"172.29.{self._digest[0]}"}

    async def _answers(self) -> None:
        """The gateway is ready, and the proxy in front of it ends TLS."""
        give_up = time.monotonic() + _READY_S
        while not await self._is_ready():
            if time.monotonic() > give_up:
                raise StackError(
                    f"the gateway is not ready after {_READY_S:.0f} s: docker compose -p {self.project} logs"
                )
            await asyncio.sleep(_POLL_S)

    async def _is_ready(self) -> bool:
        certificate_of_its_own = False  # Caddy's, which no client of this machine trusts yet
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False, verify=certificate_of_its_own) as http:
                ready = await http.get(f"{self.ops_url('gateway')}/readyz")
                proxied = await http.get(f"https://localhost:{self.site.ports['proxy']}/v1/health")
        except httpx.TransportError:
            return False
        return ready.is_success and proxied.is_success

    def _process(self, one: Container) -> ProcessStatus:
        """Pid 0: the engine's processes are not ours to signal."""
        log = f"docker compose -p {self.project} logs {one.service}"
        if one.state == "running":
            detail = "" if one.health in ("", "healthy") else one.health
            return ProcessStatus(0, self._port(one.service), log, "running", detail)
        if one.ended_well or one.state == "created":
            return ProcessStatus(0, self._port(one.service), log, "stopped")
        return ProcessStatus(0, self._port(one.service), log, "dead", f"{one.state} with exit code {one.exit_code}")

    def _port(self, service: str) -> int:
        shown = self._state.ports
        return shown.get(service, shown.get(f"{service}-ops", 0))

    def _refuse_settings(self, env: Mapping[str, str] | None) -> None:
        if env:
            raise StackError(f"containers have the settings of docker-compose.yml: {', '.join(env)} cannot be given")

    def _record(self, name: str) -> Record:
        """Empty where it tells of a process of this machine: there is none to signal."""
        return Record(
            pid=0, created=0.0, port=self._port(name), log="", log_start=0, exit_file="", fingerprint="",
            stop_signal=0, stop_s=0.0,
        )  # fmt: skip


def variables(site: Site) -> dict[str, str]:
    """What .env of a real installation would hold, and the ports of deploy/compose/loopback.yaml."""
    secrets = site.secrets
    shown = {f"{name.upper().replace('-', '_')}_PORT": str(port) for name, port in site.ports.items()}
    return {
        "POSTGRES_PASSWORD": secrets.postgres["postgres"],
        "POSTGRES_OWNER_PASSWORD": secrets.postgres["gateway_owner"],
        **{f"POSTGRES_{role.upper()}_PASSWORD": secrets.postgres[role] for role in state.ROLES},
        "CLICKHOUSE_GATEWAY_PASSWORD": secrets.clickhouse["gateway"],
        "CLICKHOUSE_INGEST_PASSWORD": secrets.clickhouse["ingest"],
        "CLICKHOUSE_ADMIN_PASSWORD": secrets.clickhouse["admin"],
        "REDIS_PASSWORD": secrets.redis,
        "MINIO_ROOT_USER": "bigdata",
        "MINIO_ROOT_PASSWORD": secrets.credits_token[::-1],
        "CREDITS_TOKENS": secrets.credits_token,
        "SIGNING_KEYS": secrets.signing_key,
        "ADMIN_API_KEY": hashlib.sha256(secrets.admin_key.encode()).hexdigest(),
        "BIGDATA_HOST": "localhost",
        **shown,
        # A real installation shows its proxy to the world, this one to its own machine.
        "HTTPS_PORT": f"127.0.0.1:{site.ports['proxy']}",
    }
