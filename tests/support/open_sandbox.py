"""The sandbox without its walls: its jobs in this process, which may die of them."""

import importlib
import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from ingest.formats import archives, parquet, xml
from ingest.formats.layout import Unreadable
from ingest.formats.sandbox import Frame, Limits, ReadAt
from ingest.formats.sandboxed.pipes import Given, Refusal


class _Given(Given):
    """The object, without asking for it over a pipe."""

    def __init__(self, read_at: ReadAt, size: int | None) -> None:
        super().__init__(io.BytesIO(), io.BytesIO(), size)
        self._read_at = read_at

    def _ask(self, size: int) -> bytes:
        if self._size is not None:
            size = min(size, self._size - self._position)
        piece = self._read_at(self._position, size) if size > 0 else b""
        self._position += len(piece)
        self.taken += len(piece)
        return piece


class _Frames(list[Frame]):
    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self._left = bytes_max

    def data(self, *parts: Any) -> None:
        data = b"".join(map(bytes, parts))
        self._left -= len(data)
        if self._left < 0:
            raise Refusal("it unpacks to more bytes than are allowed")
        self.append(Frame(data=data))

    def meta(self, found: object) -> None:
        self.append(Frame(meta=found))


@contextmanager
def _in_this_process(
    job: str,
    read_at: ReadAt,
    size: int | None,
    limits: Limits,
    *,
    what: str,
    values: Mapping[str, Any] | None = None,
) -> Iterator[Iterator[Frame]]:
    module, _, name = job.partition(":")
    run = getattr(importlib.import_module(f"ingest.formats.sandboxed.{module}"), name)
    frames = _Frames(limits.output_bytes_max if size is None else limits.output_of(size))
    try:
        run(_Given(read_at, size), frames, dict(values or {}))
    except (Refusal, MemoryError) as exc:
        raise Unreadable(f"{what} cannot be read: {exc!r}") from exc
    yield iter(frames)


@contextmanager
def open_sandbox() -> Iterator[None]:
    """As long as it lasts, archives, XML and Parquet are taken apart here."""
    with ExitStack() as changed:
        for module in (archives, parquet, xml):
            changed.enter_context(mock.patch.object(module, "sandbox", _in_this_process))
        yield
