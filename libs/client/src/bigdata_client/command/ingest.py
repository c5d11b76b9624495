"""`bigdata ingest`: files, patterns or stdin, sent and followed to their end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Annotated

import typer

from bigdata_client.async_client import AsyncClient
from bigdata_client.command.load_progress import Bars, bars
from bigdata_client.command.outcome import Exit, Stop, code_of, exit_of_load, say, told
from bigdata_client.command.output import Output
from bigdata_client.command.session import Session, with_session
from bigdata_client.errors import BigDataError, UploadFailed
from bigdata_client.uploads import Upload

_AT_ONCE = 4
_LEFT = "interrupted; what was sent whole is loaded all the same: `bigdata uploads list`"
_STDIN = "-"
_COLUMNS = ("file", "upload_id", "state", "rows.total", "rows.accepted", "rows.rejected")


@dataclass(frozen=True)
class Sent:
    """What became of one file."""

    file: str
    upload: Upload | None
    code: Exit
    error: str | None = None

    @property
    def arrived(self) -> bool:
        return self.upload is not None and bool(self.upload.upload_id)

    def document(self) -> dict[str, object]:
        found = asdict(self.upload) if self.upload and self.arrived else {}
        return {"file": self.file, **found, "error": self.error or found.get("error")}


@dataclass(frozen=True)
class Load:
    dataset: str
    format: str | None
    replaces: str | None
    name: str | None
    wait: bool
    deadline_s: float


def register(app: typer.Typer) -> None:
    app.command("ingest", rich_help_panel="Loading")(ingest)


@with_session
def ingest(
    session: Session,
    *,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files or 'patterns*'; - for stdin.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Where the rows go.")],
    format: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option("--format", "-f", help="csv, json, ndjson, xml or parquet; else it is found out.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call stdin, e.g. people.csv.")] = None,
    replaces: Annotated[
        str | None, typer.Option("--replaces", help="The upload whose rejected rows this file corrects.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow each file until it is loaded.")] = True,
    deadline: Annotated[float, typer.Option("--deadline", min=1, help="Seconds to wait for one file.")] = 3600,
) -> None:
    """Load files. Exits with 0 when all was loaded, 7 when rows were rejected, 1 when a file failed.

    [bold]bigdata ingest 'exports/*.csv' --dataset people[/], or from a program:
    [bold]export-people | bigdata ingest - -d people --name people.csv[/]
    """
    target = session.target()
    chosen = _expanded(files)
    load = Load(dataset, format, replaces, name, wait, deadline)
    client = AsyncClient(target.url, target.key_for(admin=True))
    try:
        with bars(hidden=session.out.as_json) as progress:
            sent = asyncio.run(_send_all(client, chosen, load, progress))
    except KeyboardInterrupt:
        raise Stop(_LEFT, Exit.INTERRUPTED) from None
    _show(session.out, sent)
    worst = _worst(one.code for one in sent)
    if worst:
        raise Stop(_summary(sent), worst)


def _expanded(files: list[str]) -> list[str]:
    """Patterns that the shell left alone are resolved here; what matches nothing is an error, not nothing to do."""
    found: list[str] = []
    for one in files:
        if one == _STDIN or not has_magic(one) or Path(one).exists():
            found.append(one)
            continue
        matching = sorted(path for path in glob(one, recursive=True) if Path(path).is_file())  # noqa: PTH207 - as shells do
        if not matching:
            raise Stop(f"no file matches {one}", Exit.USAGE)
        found += matching
    if len(set(found)) < len(found):
        raise Stop("a file is named twice", Exit.USAGE)
    return found


async def _send_all(client: AsyncClient, files: list[str], load: Load, progress: Bars) -> list[Sent]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def send(file: str) -> Sent:
        async with slots:
            return await _send(client, file, load, progress)

    async with client:
        return list(await asyncio.gather(*(send(file) for file in files)))


async def _send(client: AsyncClient, file: str, load: Load, progress: Bars) -> Sent:
    """One file that fails must not keep the others from being loaded."""
    last: Upload | None = None

    def show(upload: Upload) -> None:
        nonlocal last
        last = upload
        progress.show(file, upload)

    try:
        done = await client.upload(
            sys.stdin.buffer if file == _STDIN else Path(file),
            load.dataset,
            filename=load.name if file == _STDIN else None,
            format=load.format,
            replaces=load.replaces,
            wait=load.wait,
            deadline_s=load.deadline_s,
            on_progress=show,
        )
    except UploadFailed as fault:
        return Sent(file, last, Exit.FAILED, str(fault))
    except (BigDataError, TimeoutError, OSError) as fault:
        return Sent(file, last, code_of(fault), told(fault))
    return Sent(file, done, exit_of_load(done.state) if load.wait else Exit.OK)


def _show(out: Output, sent: list[Sent]) -> None:
    """Programs get every file; people those that arrived, and in words what became of the rest."""
    shown = [one for one in sent if out.as_json or one.arrived]
    if shown:
        out.items([one.document() for one in shown], _COLUMNS)
    for one in sent:
        if one.upload and one.upload.duplicate_of:
            say(f"{one.file}: this content was loaded before, as {one.upload.duplicate_of}; nothing was loaded twice")


def _worst(codes: Iterable[Exit]) -> Exit:
    """A file that failed outweighs rows that were rejected; a refusal names its own code."""
    found = set(codes) - {Exit.OK}
    others = found - {Exit.REJECTS}
    if not others:
        return Exit.REJECTS if found else Exit.OK
    return others.pop() if len(others) == 1 else Exit.FAILED


def _summary(sent: list[Sent]) -> str:
    bad = [one for one in sent if one.code not in {Exit.OK, Exit.REJECTS}]
    lines = [_named(one.file, one.error or "failed") for one in bad]
    rejected = [(one.upload.upload_id, one.upload.rejected) for one in sent if one.upload and one.upload.rejected]
    lines += [f"rejected rows: {count:,}; bigdata quarantine list {upload_id}" for upload_id, count in rejected]
    return "\n".join(lines)


def _named(file: str, error: str) -> str:
    return error if error.startswith(file) else f"{file}: {error}"
