"""What both clients know of httpx: its faults as ours, limits in time, a table out of Arrow's bytes."""

from __future__ import annotations

import io
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import httpx

from bigdata_client.errors import BrokenAnswer, Unreachable
from bigdata_client.queries import streamed

if TYPE_CHECKING:
    import pyarrow as pa

CONNECT_S = 5.0
PIECE_BYTES = 1 << 20
# A stream of events is quiet at times, but never without a comment for longer than this.
EVENTS = httpx.Timeout(60, connect=CONNECT_S)
RECONNECT_S = 1.0
# From the first look at an upload to the ones that a long load gets.
LOOK_FIRST_S, LOOK_MAX_S = 0.1, 1.0
# Nothing of the request can have arrived.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def settings(url: str, api_key: str, timeout_s: float) -> dict[str, Any]:
    return {
        "base_url": url,
        "headers": {"x-api-key": api_key},
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
    }


@contextmanager
def faults_of(url: str) -> Iterator[None]:
    """Around a request until its headers are here. Raises Unreachable."""
    try:
        yield
    except (httpx.TransportError, ssl.SSLError) as exc:
        raise Unreachable(url, _reason(exc), sent=not isinstance(exc, _NOT_SENT)) from exc


@contextmanager
def whole_answer() -> Iterator[None]:
    """Around the reading of a body: one that breaks off must never look whole. Raises BrokenAnswer."""
    try:
        yield
    except httpx.TransportError as exc:
        raise BrokenAnswer(f"the answer broke off and is not complete: {_reason(exc)}") from exc


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when all of it is there."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def arrow_table(data: bytes, answer: httpx.Response) -> pa.Table:
    """The query's id and what it reserved travel in the schema's metadata."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and most programs never need it

    try:
        with pa.ipc.open_stream(io.BytesIO(data)) as reader:
            table = reader.read_all()
    except pa.ArrowInvalid as exc:
        raise BrokenAnswer(f"the answer is not a whole Arrow stream: {exc}") from exc
    about = streamed(answer, len(data))
    known = {
        "query_id": about.query_id,
        "total_records": about.total_records,
        "credits_reserved": about.credits_reserved,
    }
    extra = {name: str(value) for name, value in known.items() if value is not None}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **extra})


def data_frame(table: pa.Table) -> Any:
    """A pandas DataFrame; `attrs["query_id"]` leads to its receipt."""
    frame = table.to_pandas()
    frame.attrs.update({name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()})
    return frame


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
