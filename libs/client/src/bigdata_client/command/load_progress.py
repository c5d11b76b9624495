"""Progress bars of loads on stderr, so that stdout stays for programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bigdata_client.uploads import SENDING, Upload


@dataclass
class Bars:
    _progress: Progress
    _tasks: dict[str, TaskID] = field(default_factory=dict)

    def show(self, name: str, upload: Upload) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(escape(name), total=upload.size, state="")
        self._progress.update(
            self._tasks[name],
            total=upload.size,
            completed=(upload.size if upload.finished else upload.bytes_done) or 0,
            state=_state(upload),
        )


@contextmanager
def bars(*, hidden: bool = False) -> Iterator[Bars]:
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
    )
    with progress:
        yield Bars(progress)


def _state(upload: Upload) -> str:
    if upload.state == SENDING or upload.finished or not upload.rows_per_second:
        return upload.state
    eta = f", {upload.eta_seconds:.0f} s left" if upload.eta_seconds is not None else ""
    return f"{upload.state} {upload.rows_per_second:,.0f} rows/s{eta}"
