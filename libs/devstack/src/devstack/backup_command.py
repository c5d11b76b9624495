"""`bigdata backup | restore`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from devstack.command import FOLDER, Folder, Json, open_stack, run

_out = Console(highlight=False, soft_wrap=True)


def backup(
    archive: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    folder: Folder = FOLDER,
    *,
    as_json: Json = False,
) -> None:
    """Copy the whole local stack into one file, secrets included; it stops meanwhile and starts again."""
    from devstack.backup import backup as write  # noqa: PLC0415 - other commands start without it

    size = run(write(open_stack(folder), archive))
    if as_json:
        typer.echo(json.dumps({"archive": str(archive), "bytes": size}))
    else:
        _out.print(f"{archive}: {size / 1e6:,.1f} MB; whoever reads it has this stack's keys and passwords")


def restore(
    archive: Annotated[Path, typer.Argument(help="What `bigdata backup` wrote.")],
    folder: Folder = FOLDER,
    *,
    as_json: Json = False,
) -> None:
    """Make a stopped stack from a backup, in a folder that is empty or missing; `bigdata up` starts it."""
    from devstack.backup import restore as read  # noqa: PLC0415 - other commands start without it

    async def restored() -> Path:
        return read(archive, folder).folder

    where = run(restored())
    if as_json:
        typer.echo(json.dumps({"folder": str(where)}))
    else:
        _out.print(f"restored to {where}: start it with `bigdata up --folder {where}`")
