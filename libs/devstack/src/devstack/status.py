"""What `bigdata status` tells: where everything is, which keys open it, and what became of each process."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from devstack import bucket, clickhouse, kafka, postgres, process, redis, services
from devstack.part import Site
from devstack.process import Record
from devstack.state import State


@dataclass(frozen=True)
class ProcessStatus:
    """`stopped` is on purpose, `dead` is not; `detail` says how it died when that is known. pid 0: never started."""

    pid: int
    port: int
    log: str
    state: Literal["running", "dead", "stopped"]
    detail: str = ""


@dataclass(frozen=True)
class Status:
    """Addresses hold credentials: the stack is for one machine. An address is None before its part first started."""

    folder: str
    gateway: str | None
    credits: str | None
    postgres: str | None
    clickhouse: str | None
    redis: str | None
    kafka: str | None
    bucket: str
    admin_key: str
    user_key: str | None
    processes: dict[str, ProcessStatus]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def dead(self) -> dict[str, ProcessStatus]:
        return {name: one for name, one in self.processes.items() if one.state == "dead"}

    @property
    def running(self) -> bool:
        return any(one.state == "running" for one in self.processes.values())


def describe(site: Site, state: State) -> Status:
    processes = {
        **{name: _one(record) for name, record in state.processes.items()},
        **{name: _never_came(site, name) for name in state.wanted if name not in state.processes},
    }
    return replace(addresses(site, state, state.processes.keys()), processes=processes)


def addresses(site: Site, state: State, known: Collection[str]) -> Status:
    """Of the parts that are `known` to have been started; what became of each is for the caller to add."""
    return Status(
        folder=str(site.folder),
        gateway=services.url(site) if "gateway" in known else None,
        credits=services.url(site, "credits") if "credits" in known else None,
        postgres=postgres.dsn(site) if "postgres" in known else None,
        clickhouse=clickhouse.url(site) if "clickhouse" in known else None,
        redis=redis.url(site) if "redis" in known else None,
        kafka=kafka.brokers(site) if "kafka" in known else None,
        bucket=bucket.url(site),
        admin_key=state.secrets.admin_key,
        user_key=state.user_key,
        processes={},
    )


def _never_came(site: Site, name: str) -> ProcessStatus:
    port = next((port for key, port in site.ports.items() if key in (name, f"{name}-ops")), 0)
    return ProcessStatus(0, port, str(site.log(name)), "dead", "was never started")


def _one(record: Record) -> ProcessStatus:
    if process.is_paused(record):
        return ProcessStatus(record.pid, record.port, record.log, "running", "paused by a signal")
    if process.is_alive(record):
        return ProcessStatus(record.pid, record.port, record.log, "running", "" if record.prepared else "not ready yet")
    if record.stopped:
        return ProcessStatus(record.pid, record.port, record.log, "stopped")
    return ProcessStatus(record.pid, record.port, record.log, "dead", process.how_it_ended(record))
