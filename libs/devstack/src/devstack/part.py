"""What the stack has to know of one part, and where all of them live."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from devstack.process import Command, StackError
from devstack.state import Secrets


@dataclass(frozen=True)
class Site:
    """One stack's folder, ports and secrets: everything a part needs to know of the others."""

    folder: Path
    ports: dict[str, int]
    secrets: Secrets
    kafka: str = "local"  # or apache, or apache3

    def data(self, name: str) -> Path:
        return self.folder / "data" / name

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def exit_file(self, name: str) -> Path:
        return self.folder / "run" / f"{name}.exit"


async def nothing(_: Site) -> None:
    return


@dataclass(frozen=True)
class Part:
    """`before` and `after` its start must be safe to repeat: a stack may be interrupted anywhere."""

    name: str
    command: Callable[[Site], Command]
    ready: Callable[[Site], Awaitable[bool]]
    ports: tuple[str, ...]
    needs: tuple[str, ...] = ()
    before: Callable[[Site], Awaitable[None]] = nothing
    after: Callable[[Site], Awaitable[None]] = nothing
    ready_s: float = 30.0


def inside_wheel(package: str, pattern: str) -> Path:
    """A server's program inside its wheel, found without importing the package (which takes longer than its start)."""
    spec = find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec is not None else ()
    for folder in folders:
        for path in Path(folder).glob(pattern):
            return path
    raise StackError(f"the package {package} is not installed or has no {pattern} for this machine")
