"""Files: sending them, following them, what was not loaded of them, taking them back."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

from bigdata_client.call import Call, Page, document, nothing, page
from bigdata_client.decoding import decode
from bigdata_client.errors import UploadFailed

# Waiting is over in these.
FINISHED = frozenset({"completed", "completed_with_rejects", "failed", "undone"})
# Never said by the gateway: the file is on its way there.
SENDING = "sending"
RejectFormat = Literal["ndjson", "csv"]
Source: TypeAlias = Path | str | bytes | IO[bytes]


@dataclass(frozen=True)
class Rows:
    total: int | None = None
    accepted: int | None = None
    rejected: int | None = None


@dataclass(frozen=True)
class Chunks:
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class Upload:
    """Where a file is. Until the gateway has all of it, `state` is `sending` and `upload_id` empty."""

    upload_id: str
    state: str
    dataset: str = ""
    filename: str | None = None
    sha256: str = ""
    size: int | None = None
    bytes_done: int | None = None
    rows: Rows = Rows()
    chunks: Chunks = Chunks()
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    error: str | None = None
    duplicate_of: str | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @property
    def rejected(self) -> int:
        return self.rows.rejected or 0


@dataclass(frozen=True)
class Replayed:
    total: int | None = None
    passed: int | None = None
    failed: int | None = None


@dataclass(frozen=True)
class Replay:
    """What came of trying rejected rows again; in state `waiting` nothing yet."""

    replay_id: str
    state: str
    upload_id: str | None = None
    dry_run: bool | None = None
    rows: Replayed = Replayed()
    reasons: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    @property
    def finished(self) -> bool:
        return self.state != "waiting"


OnProgress = Callable[[Upload], None]


@dataclass(frozen=True)
class Outgoing:
    """A file to be sent. One that can be opened again can be sent again when the connection broke."""

    source: Source
    filename: str
    size: int | None

    @property
    def repeatable(self) -> bool:
        return isinstance(self.source, Path | bytes)


def outgoing(source: Source, filename: str | None) -> Outgoing:
    """Raises FileNotFoundError and the like at once, not in the middle of a request."""
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, Path):
        with source.open("rb"):
            size = source.stat().st_size
        return Outgoing(source, filename or source.name, size)
    if isinstance(source, bytes):
        return Outgoing(source, filename or "", len(source))
    name = getattr(source, "name", "")
    return Outgoing(source, filename or (Path(name).name if isinstance(name, str) else ""), None)


def send(file: Outgoing, dataset: str, form: str | None, replaces: str | None) -> Call[Upload]:
    """Sending the same content again loads nothing twice, so that a retry is safe."""
    return Call(
        "POST",
        "/v1/uploads",
        lambda answer: replace(document(Upload)(answer), dataset=dataset, filename=file.filename),
        params={"dataset": dataset, "filename": file.filename or None, "format": form, "replaces": replaces},
        headers={"content-type": "application/octet-stream"},
        repeatable=file.repeatable,
    )


def status(upload_id: str) -> Call[Upload]:
    return Call("GET", f"/v1/uploads/{upload_id}", document(Upload))


def events(upload_id: str) -> Call[None]:
    return Call("GET", f"/v1/uploads/{upload_id}/events", nothing, headers={"accept": "text/event-stream"})


def uploads(limit: int, cursor: str | None) -> Call[Page[Upload]]:
    return Call("GET", "/v1/uploads", page(Upload), params={"limit": limit, "cursor": cursor})


def rejects(upload_id: str, form: RejectFormat) -> Call[str]:
    return Call("GET", f"/v1/uploads/{upload_id}/rejects", lambda answer: answer.text, params={"format": form})


def replay(upload_id: str, *, dry_run: bool) -> Call[Replay]:
    path = f"/v1/uploads/{upload_id}/replay"
    # A dry run changes nothing; of two real ones, the second finds nothing left to load.
    return Call("POST", path, document(Replay), json={"dry_run": dry_run})


def replay_status(upload_id: str, replay_id: str) -> Call[Replay]:
    return Call("GET", f"/v1/uploads/{upload_id}/replays/{replay_id}", document(Replay))


def undo(upload_id: str) -> Call[Upload]:
    return Call("DELETE", f"/v1/uploads/{upload_id}", document(Upload))


@contextmanager
def opened(file: Outgoing) -> Iterator[IO[bytes]]:
    """From its beginning, but for a file that the caller opened: that one is read from where it stands."""
    match file.source:
        case Path():
            with file.source.open("rb") as source:
                yield source
        case bytes():
            yield io.BytesIO(file.source)
        case _:
            yield cast("IO[bytes]", file.source)


def sending(file: Outgoing, dataset: str, sent: int) -> Upload:
    return Upload("", SENDING, dataset, file.filename, size=file.size, bytes_done=sent)


def of_event(found: Any) -> Upload:
    return decode(Upload, found)


def ended(upload_id: str, last: Upload | None, deadline_s: float) -> Upload:
    """Raises TimeoutError when it has not, UploadFailed when it failed."""
    if last is None or not last.finished:
        state = last.state if last else "unknown"
        raise TimeoutError(f"upload {upload_id} is still {state} after {deadline_s:g} s")
    if last.state == "failed":
        raise UploadFailed(last.error or f"upload {upload_id} failed")
    return last


def require_time(until: float, what: str) -> None:
    """Raises TimeoutError when the moment (of time.monotonic) has passed."""
    if time.monotonic() > until:
        raise TimeoutError(f"{what} has not ended yet; it goes on, look again later")
