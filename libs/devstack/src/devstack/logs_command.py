"""`bigdata logs`: what the parts of the stack write, or the live log of requests."""

import json
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from bigdata_client.command import Exit, Session, fail, with_session
from bigdata_client.command.request_log import follow as follow_requests
from devstack.command import FOLDER, Folder, Json, open_stack
from devstack.state import COMPOSE

_POLL_S = 0.2
Show: TypeAlias = Callable[[str, str], None]


def logs(
    name: Annotated[str | None, typer.Argument(help="A part, as `bigdata status` names it; all when absent.")] = None,
    folder: Folder = FOLDER,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
    tail: Annotated[
        bool, typer.Option("--tail", help="Requests instead, live, as the gateway answers them: `bigdata admin logs`.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The logs of one part or of all; with --tail the live log of requests."""
    if tail:
        _tail_requests(as_json=as_json)
        return
    if os.environ.get("STACK") == COMPOSE:
        containers = open_stack(folder).status().processes
        commands = [one.log for part, one in containers.items() if name in (None, part)]
        fail("\n".join(["containers keep their logs themselves:", *commands]), Exit.ABSENT)
    folder = folder.expanduser().resolve()
    files = {path.stem: path for path in sorted((folder / "logs").glob("*.log"))}
    if name is not None and name not in files:
        fail(f"no log of {name} in {folder}; there are: {', '.join(files) or 'none'}", Exit.ABSENT)
    chosen = files if name is None else {name: files[name]}
    show = _json_line if as_json else (_prefixed_line if len(chosen) > 1 else _plain_line)
    offsets = {one: _print_last(one, path, lines, show) for one, path in chosen.items()}
    while follow:
        time.sleep(_POLL_S)
        for one, path in chosen.items():
            offsets[one] = _print_new(one, path, offsets[one], show)


@with_session
def _tail_requests(session: Session) -> None:
    with session.client(admin=True) as client:
        follow_requests(session, client, {})


def _print_last(name: str, path: Path, lines: int, show: Show) -> int:
    with path.open("rb") as log:
        for line in deque(log, maxlen=lines):
            show(name, _text(line))
        return log.tell()


def _print_new(name: str, path: Path, offset: int, show: Show) -> int:
    """Whole lines only; a log that was replaced is read from its beginning."""
    with path.open("rb") as log:
        log.seek(offset if path.stat().st_size >= offset else 0)
        offset = log.tell()
        for line in log:
            if line.endswith(b"\n"):
                show(name, _text(line))
                offset += len(line)
    return offset


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\n")


def _plain_line(_: str, text: str) -> None:
    typer.echo(text)


def _prefixed_line(name: str, text: str) -> None:
    typer.echo(f"{name:<14} | {text}")


def _json_line(name: str, text: str) -> None:
    typer.echo(json.dumps({"part": name, "line": text}, ensure_ascii=False))
