"""Two copies of what is called, one address in front of them, and the replacing of one process after another."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from devstack.stack import Stack
from support.stack import further_copy
from support.tcp_proxy import Proxy, open_proxy

_INDEX = 71  # of the second copies; no other test uses it


@dataclass(frozen=True)
class Fleet:
    """A balancer knows which processes are ready, as endpoints and a preStop pause see to it on Kubernetes."""

    stack: Stack
    gateway: Proxy
    credits: Proxy
    settings: dict[str, str]

    async def replace_all(self) -> int:
        """Every process, one by one, by SIGTERM; returns how many."""
        for base, balancer in (("credits", self.credits), ("gateway", self.gateway)):
            for name, other in ((base, f"{base}-{_INDEX}"), (f"{base}-{_INDEX}", base)):
                await self._replace(base, name, other, balancer)
        for name in ("ingest-worker", "audit-logger"):
            await self.stack.restart(name)
        return 6

    async def _replace(self, base: str, name: str, other: str, balancer: Proxy) -> None:
        settings = self.settings if base == "gateway" else None
        balancer.target = _address(self.stack, other)
        await self.stack.stop(name)
        if name == base:
            await self.stack.start(base, settings)
        else:
            await self.stack.start_extra(base, _INDEX, settings)
        balancer.target = _address(self.stack, name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"


@asynccontextmanager
async def open_fleet(stack: Stack) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as closing:
        await closing.enter_async_context(further_copy(stack, "credits", index=_INDEX))
        ledger = await closing.enter_async_context(open_proxy(*_address(stack, "credits")))
        settings = {"CREDITS_URL": f"http://127.0.0.1:{ledger.port}"}
        await closing.enter_async_context(further_copy(stack, "gateway", index=_INDEX, env=settings))
        closing.push_async_callback(stack.restart, "gateway")  # with its own settings again
        await stack.restart("gateway", settings)
        front = await closing.enter_async_context(open_proxy(*_address(stack, "gateway")))
        yield Fleet(stack, front, ledger, settings)


def _address(stack: Stack, name: str) -> tuple[str, int]:
    address = urlsplit(stack.url(name))
    assert address.hostname
    assert address.port
    return address.hostname, address.port
