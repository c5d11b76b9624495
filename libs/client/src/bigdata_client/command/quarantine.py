"""`bigdata quarantine`: rows that did not fit, why, and loading them again."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bigdata_client.command.groups import group
from bigdata_client.command.outcome import say
from bigdata_client.command.paging import Limit, everything
from bigdata_client.command.session import Session, with_session
from bigdata_client.command.uploads import COLUMNS, UploadId


class RejectForm(StrEnum):
    NDJSON = "ndjson"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    quarantine = group(app, "quarantine", "Rows that did not fit: reasons, download, replay.", panel="Loading")
    quarantine.command("list")(list_rejects)
    quarantine.command("download")(download)
    quarantine.command("replay")(replay)


@with_session
def list_rejects(
    session: Session,
    upload_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An upload; absent: those with rejects.")
    ] = None,
    limit: Limit = 20,
) -> None:
    """Uploads that have rejected rows, or the rejected rows of one upload."""
    with session.client(admin=True) as client:
        if upload_id is None:
            uploads = everything(lambda limit, cursor: client.uploads(limit=limit, cursor=cursor), 1000)
            with_rejects = [one for one in uploads if one.rejected][:limit]
            session.out.items(with_rejects, COLUMNS, none="no upload has rejected rows")
            return
        lines = client.rejects(upload_id).splitlines()
    shown = [json.loads(line) for line in lines[:limit]]
    session.out.items(shown, ("line", "column", "reason", "raw"), none="no row of this upload was rejected")
    if len(lines) > limit:
        say(f"{len(lines) - limit:,} more: bigdata quarantine download {upload_id}")


@with_session
def download(
    session: Session,
    upload_id: UploadId,
    form: Annotated[RejectForm, typer.Option("--format", "-f")] = RejectForm.NDJSON,
    to: Annotated[Path | None, typer.Option("--to", help="A file instead of stdout.")] = None,
) -> None:
    """The rejected rows as they came, with line, column and reason: correct them and `bigdata ingest --replaces ID`."""
    with session.client(admin=True) as client:
        text = client.rejects(upload_id, format=form.value)
    if to is None:
        sys.stdout.write(text)
        return
    to.write_text(text, encoding="utf-8")
    session.out.item({"file": str(to), "bytes": to.stat().st_size})


@with_session
def replay(
    session: Session,
    *,
    upload_id: UploadId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many would pass now.")] = False,
) -> None:
    """Load the rejected rows again, by the declaration of today."""
    with session.client(admin=True) as client:
        session.out.item(client.replay(upload_id, dry_run=dry_run))
