"""Which parts there are, and in which order they stop."""

from collections.abc import Iterable, Mapping

from devstack import apache_kafka, clickhouse, kafka, postgres, redis, services
from devstack.part import Part
from devstack.process import StackError

SERVERS: dict[str, Part] = {part.name: part for part in (postgres.PART, redis.PART, kafka.PART, clickhouse.PART)}
# Brokers of Apache Kafka by the name a user gives them.
_APACHE = {"apache": 1, "apache3": 3}
BROKERS = ("local", *_APACHE)


def servers(broker: str = "local") -> dict[str, Part]:
    """What the services stand on. Raises StackError for a broker that nobody knows."""
    if broker not in BROKERS:
        raise StackError(f"there is no broker {broker}: {', '.join(BROKERS)}")
    if broker not in _APACHE:
        return SERVERS
    others = {name: part for name, part in SERVERS.items() if name != kafka.NAME}
    return others | {part.name: part for part in apache_kafka.parts(_APACHE[broker])}


def all_parts(broker: str = "local") -> list[Part]:
    """What needs others comes after them."""
    return [*servers(broker).values(), *(services.part(service) for service in services.SERVICES.values())]


def known(name: str) -> bool:
    """False for further copies, which carry a number."""
    return _is_server(name) or name in services.SERVICES


def find(name: str, env: Mapping[str, str] | None = None, broker: str = "local") -> Part:
    if (server := servers(broker).get(name)) is not None:
        return server
    return services.part(_service(name), extra=dict(env or {}))


def further_copy(name: str, index: int, env: Mapping[str, str] | None = None) -> Part:
    return services.part(_service(name), f"{name}-{index}", dict(env or {}))


def stages(names: Iterable[str]) -> list[list[str]]:
    """Gateways first: they hand their spool to credits and Kafka while they stop. Servers last."""
    first: list[str] = []
    then: list[str] = []
    last: list[str] = []
    for name in names:
        (last if _is_server(name) else first if name.startswith(services.GATEWAY) else then).append(name)
    return [first, then, last]


def _is_server(name: str) -> bool:
    return name in SERVERS or name in apache_kafka.names(max(_APACHE.values()))


def _service(name: str) -> services.Service:
    if name not in services.SERVICES:
        raise StackError(f"there is no part named {name}; parts: {', '.join([*SERVERS, *services.SERVICES])}")
    return services.SERVICES[name]
