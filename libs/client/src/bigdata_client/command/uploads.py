"""`bigdata uploads`: where files are, and taking them back."""

from __future__ import annotations

from typing import Annotated

import typer

from bigdata_client.command.groups import group
from bigdata_client.command.load_progress import bars
from bigdata_client.command.outcome import Exit, Stop, exit_of_load
from bigdata_client.command.paging import Limit, everything
from bigdata_client.command.session import Session, with_session

UploadId = Annotated[str, typer.Argument(metavar="ID", help="Of `bigdata uploads list`.")]
COLUMNS = ("upload_id", "dataset", "filename", "state", "rows.total", "rows.accepted", "rows.rejected", "created_at")


def register(app: typer.Typer) -> None:
    uploads = group(app, "uploads", "Files that were sent: progress, outcome, undo.", panel="Loading")
    uploads.command("list")(list_uploads)
    uploads.command("show")(show)
    uploads.command("watch")(watch)
    uploads.command("undo")(undo)


@with_session
def list_uploads(session: Session, limit: Limit = 20) -> None:
    """Uploads, newest first; an admin sees everybody's."""
    with session.client(admin=True) as client:
        found = everything(lambda limit, cursor: client.uploads(limit=limit, cursor=cursor), limit)
        session.out.items(found, COLUMNS, none="nothing was uploaded yet: bigdata ingest FILE --dataset NAME")


@with_session
def show(session: Session, upload_id: UploadId) -> None:
    """One upload: state, rows, progress."""
    with session.client(admin=True) as client:
        session.out.item(client.upload_status(upload_id))


@with_session
def watch(
    session: Session,
    upload_id: UploadId,
    deadline: Annotated[float, typer.Option("--deadline", min=1, help="Seconds to wait at most.")] = 600,
) -> None:
    """Follow an upload to its end. Exits with 0 loaded, 7 loaded with rejects, 1 failed."""
    with session.client(admin=True) as client, bars(hidden=session.out.as_json) as progress:
        last = client.upload_status(upload_id)
        for last in client.watch_upload(upload_id, deadline_s=deadline):
            progress.show(upload_id, last)
    session.out.item(last)
    if not last.finished:
        raise Stop(f"it is still {last.state} after {deadline:g} s", Exit.TRY_LATER)
    if code := exit_of_load(last.state):
        raise Stop(last.error or f"rejected rows: {last.rejected:,}; bigdata quarantine list {upload_id}", code)


@with_session
def undo(
    session: Session,
    *,
    upload_id: UploadId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is done, not only certain.")] = True,
    deadline: Annotated[float, typer.Option("--deadline", min=1, help="Seconds to wait at most.")] = 600,
) -> None:
    """Leave the dataset as if this upload had never been loaded."""
    with session.client(admin=True) as client:
        upload = client.upload_status(upload_id)
        if not yes and not session.out.as_json:
            rows = upload.rows.accepted or 0
            typer.confirm(
                f"take {rows:,} rows of {upload.filename or upload_id} out of {upload.dataset}?", abort=True, err=True
            )
        session.out.item(client.undo_upload(upload_id, wait=wait, deadline_s=deadline))
