"""`bigdata datasets check`: whether declarations are valid, before a service refuses to start with them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from bigdata_client.command import Exit, Json, Stop, outcomes
from bigdata_client.command.datasets import HELP
from bigdata_client.command.groups import group
from bigdata_client.command.output import Output

Paths = Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", help="Files, or folders of them.")]
_DECLARATIONS = Path("configs/datasets")


@dataclass(frozen=True)
class Fault:
    file: str
    line: int | None
    fault: str

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line) if part is not None) + f": {self.fault}"


def register(app: typer.Typer) -> None:
    group(app, "datasets", HELP, panel="Data").command("check")(check)


def check(files: Paths = None, *, as_json: Json = False) -> None:
    """Check declarations of datasets; each fault with its line. Exits with 1 when there are any."""
    with outcomes():
        chosen = list(_files(files or [_DECLARATIONS]))
        faults = [fault for file in chosen for fault in _faults(file)]
        if as_json:
            Output(as_json=True).json({"files": len(chosen), "faults": [asdict(one) for one in faults]})
        elif not faults:
            typer.echo(f"{len(chosen)} valid: {', '.join(file.stem for file in chosen)}")
        if faults:
            raise Stop("\n".join(map(str, faults)), Exit.FAILED)


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(path.glob("*.yaml"))
        if not found:
            raise Stop(f"{path}: no .yaml file is here", Exit.USAGE)
        yield from found


def _faults(file: Path) -> Iterator[Fault]:
    # Here: `bigdata --help` need not wait for pydantic.
    datasets, settings = import_module("common.datasets"), import_module("common.settings")
    try:
        datasets.load_dataset(file)
    except settings.BadSettings as exc:
        for said in str(exc).splitlines():
            yield _fault(str(file), said)


def _fault(file: str, said: str) -> Fault:
    """Said as `file:line: what`."""
    line, colon, what = said.removeprefix(f"{file}:").partition(":")
    if colon and line.strip().isdigit():
        return Fault(file, int(line), what.strip())
    return Fault(file, None, said.removeprefix(f"{file}:").strip())
