"""A stack of its own for a test session, and ways to break one part of it."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from devstack import state
from devstack.compose import BROKER, ComposeStack
from devstack.process import StackError
from devstack.stack import Stack

_PREFIX = "bigdata-test-"


@asynccontextmanager
async def running_stack(*, servers_only: bool = False) -> AsyncIterator[Stack]:
    """Started in a temporary folder, stopped and deleted at the end; KEEP_STACK=1 leaves it for the next session."""
    await _remove_abandoned()
    # Not pytest's own temporary folder: root's PostgreSQL runs as another user and could not pass through it.
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    stack = ComposeStack(folder) if os.environ.get("STACK") == BROKER else Stack(folder)
    keep = "KEEP_STACK" in os.environ
    try:
        await stack.up(servers_only=servers_only, kafka=os.environ.get("KAFKA"))
        yield stack
    finally:
        await stack.down(purge=not keep)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def without(stack: Stack, name: str) -> AsyncIterator[None]:
    """One part is down inside the block: stopped cleanly, started again with its data afterwards."""
    await stack.stop(name)
    try:
        yield
    finally:
        await stack.start(name)


@asynccontextmanager
async def environment(stack: Stack, name: str, env: Mapping[str, str]) -> AsyncIterator[None]:
    """One part runs with additional settings inside the block, FAULTPOINTS for example."""
    _needs_processes(stack)
    await stack.restart(name, env)
    try:
        yield
    finally:
        await stack.restart(name)


@asynccontextmanager
async def further_copy(
    stack: Stack, name: str, *, index: int = 2, env: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """A second worker or gateway inside the block; gives its name for stack.kill, stack.url and stack.ops_url."""
    _needs_processes(stack)
    await stack.start_extra(name, index, env)
    copy = f"{name}-{index}"
    try:
        yield copy
    finally:
        await stack.stop(copy)


def _needs_processes(stack: Stack) -> None:
    if isinstance(stack, ComposeStack):
        pytest.skip("starts a process with settings of its own: a container has those of docker-compose.yml")


async def _remove_abandoned() -> None:
    """A test session that was killed could not stop its stack."""
    for folder in _folders_of_dead_sessions():
        with suppress(StackError, OSError):
            found = state.load(folder)
            abandoned = ComposeStack(folder) if found and found.kafka == BROKER else Stack(folder)
            await abandoned.down(purge=True)
            shutil.rmtree(folder)


def _folders_of_dead_sessions() -> list[Path]:
    folders = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
    return [one for one in folders if not psutil.pid_exists(int(one.name.removeprefix(_PREFIX).split("-")[0]))]
