"""A gateway of its own whose ways to Postgres, credits, ClickHouse and Redis a test can cut."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from devstack.stack import Stack
from support.stack import further_copy
from support.tcp_proxy import Proxy, open_proxy


@dataclass(frozen=True)
class Proxied:
    gateway: str  # for stack.url and Account.client
    postgres: Proxy
    credits: Proxy
    clickhouse: Proxy
    redis: Proxy

    def heal(self) -> None:
        for proxy in (self.postgres, self.credits, self.clickhouse, self.redis):
            proxy.heal()


@asynccontextmanager
async def open_proxied(
    stack: Stack,
    *,
    index: int,
    credits: str = "credits",  # noqa: A002 - the part's name
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Proxied]:
    """A further gateway with this number, in front of this credits process. It is healed before it is stopped."""
    settings = stack.environment("gateway")
    async with AsyncExitStack() as closing:
        postgres = await closing.enter_async_context(_proxy_to(settings["POSTGRES_URL"]))
        ledger = await closing.enter_async_context(_proxy_to(stack.url(credits)))
        clickhouse = await closing.enter_async_context(
            open_proxy(settings["CLICKHOUSE_HOST"], int(settings["CLICKHOUSE_PORT"]))
        )
        redis = await closing.enter_async_context(_proxy_to(settings["REDIS_URL"]))
        through = {
            "POSTGRES_URL": to_port(settings["POSTGRES_URL"], postgres.port),
            "CREDITS_URL": f"http://127.0.0.1:{ledger.port}",
            "CLICKHOUSE_HOST": "127.0.0.1",
            "CLICKHOUSE_PORT": str(clickhouse.port),
            "REDIS_URL": to_port(settings["REDIS_URL"], redis.port),
            **(env or {}),
        }
        name = await closing.enter_async_context(further_copy(stack, "gateway", index=index, env=through))
        proxied = Proxied(name, postgres, ledger, clickhouse, redis)
        closing.callback(proxied.heal)
        yield proxied


def _proxy_to(url: str) -> AbstractAsyncContextManager[Proxy]:
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    return open_proxy(address.hostname, address.port)


def to_port(url: str, port: int) -> str:
    """The same address with another port."""
    address = urlsplit(url)
    return address._replace(netloc=f"{address.netloc.rpartition(':')[0]}:{port}").geturl()
