"""Which parts there are, and in which order they stop."""

from collections.abc import Iterable, Mapping

from devstack import clickhouse, kafka, postgres, redis, services
from devstack.part import Part
from devstack.process import StackError

SERVERS: dict[str, Part] = {part.name: part for part in (postgres.PART, redis.PART, kafka.PART, clickhouse.PART)}


def all_parts() -> list[Part]:
    """What needs others comes after them."""
    return [*SERVERS.values(), *(services.part(service) for service in services.SERVICES.values())]


def known(name: str) -> bool:
    """False for further copies, which carry a number."""
    return name in SERVERS or name in services.SERVICES


def find(name: str, env: Mapping[str, str] | None = None) -> Part:
    if name in SERVERS:
        return SERVERS[name]
    return services.part(_service(name), extra=dict(env or {}))


def further_copy(name: str, index: int, env: Mapping[str, str] | None = None) -> Part:
    return services.part(_service(name), f"{name}-{index}", dict(env or {}))


def stages(names: Iterable[str]) -> list[list[str]]:
    """Gateways first: they hand their spool to credits and Kafka while they stop. Servers last."""
    first: list[str] = []
    then: list[str] = []
    last: list[str] = []
    for name in names:
        (last if name in SERVERS else first if name.startswith(services.GATEWAY) else then).append(name)
    return [first, then, last]


def _service(name: str) -> services.Service:
    if name not in services.SERVICES:
        raise StackError(f"there is no part named {name}; parts: {', '.join([*SERVERS, *services.SERVICES])}")
    return services.SERVICES[name]
