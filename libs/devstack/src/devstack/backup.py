"""`bigdata backup` and `bigdata restore`: a local stack in one file, and a second stack from it.

Cold on purpose: the stack stops in good order, so that what the gateway's spool, Kafka and the stores know of each
other agrees without a protocol between them. docs/operations.md says how installations are backed up while they run.
"""

import os
import tarfile
from pathlib import Path

from devstack import state
from devstack.compose import ComposeStack
from devstack.process import StackError
from devstack.stack import Report, Stack, no_report

_FOLDERS = ("data", "spool")


async def backup(stack: Stack, archive: Path, *, report: Report = no_report) -> int:
    """Write everything of a stack into one file (its secrets too: mode 0600); returns its bytes. Starts again what ran.

    Raises StackError when there is no stack or the file exists.
    """
    if not stack.exists():
        raise StackError(f"no stack in {stack.folder}")
    if isinstance(stack, ComposeStack):
        raise StackError("containers keep their data in volumes: back them up as docs/operations.md says")
    if archive.exists():  # noqa: ASYNC240 - nothing else runs in a command
        raise StackError(f"{archive} exists: name another file")
    running = stack.status().running
    if killed := await stack.down():
        raise StackError(f"{', '.join(killed)} had to be killed: start the stack and try again")
    try:
        _write(stack.folder, archive)
    finally:
        if running:
            await stack.up(report=report)
    return archive.stat().st_size  # noqa: ASYNC240 - likewise


def restore(archive: Path, folder: Path) -> Stack:
    """A stopped stack in an empty or missing folder, with ports of its own. Raises StackError for any other folder."""
    folder = folder.expanduser().resolve()
    if folder.exists() and any(folder.iterdir()):
        raise StackError(f"{folder} is not empty: name another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as file:
            # Whose file it is matters: root's PostgreSQL runs as a user of its own.
            file.extractall(folder, members=_ours(file), filter="fully_trusted", numeric_owner=True)  # noqa: S202 - every name is checked
    except (OSError, tarfile.TarError) as exc:
        raise StackError(f"{archive} cannot be read: {exc}") from exc
    restored = state.load(folder)
    if restored is None:
        raise StackError(f"{archive} is not a backup of a stack: it has no {state.STATE_FILE}")
    restored.ports, restored.processes = {}, {}
    state.save(folder, restored)
    return Stack(folder)


def _write(folder: Path, archive: Path) -> None:
    partial = archive.with_name(archive.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw:
        with tarfile.open(fileobj=raw, mode="w") as file:
            for name in (state.STATE_FILE, *_FOLDERS):
                file.add(folder / name, arcname=name, filter=_without_sockets)
        raw.flush()
        os.fsync(raw.fileno())
    partial.replace(archive)  # a half-written backup never has the name of a whole one


def _without_sockets(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return member if member.isfile() or member.isdir() or member.issym() else None


def _ours(file: tarfile.TarFile) -> list[tarfile.TarInfo]:
    for member in file.getmembers():
        first, *rest = Path(member.name).parts
        if first not in (state.STATE_FILE, *_FOLDERS) or ".." in rest:
            raise StackError(f"{member.name} is not part of a stack: this is no backup of one")
    return file.getmembers()
