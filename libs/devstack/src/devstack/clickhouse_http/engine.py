"""The embedded engine: opened once per process and data folder, one fresh connection per request.

Never fork after it has started (the child hangs) and never leave the interpreter while a query runs (that is a
segmentation fault): server.py joins every query before it closes the engine.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast
from xml.sax.saxutils import escape

from devstack.clickhouse_http.refusals import EngineError
from devstack.clickhouse_http.users import DATABASE, UserName, session_setup, users_config

SERVER_MEMORY_BYTES_MAX = 4 << 30
BACKGROUND_THREADS = 2

_REASON = re.compile(rb"Code: \d+\. DB::\w*Exception: [^\n]*")


class Chunk(Protocol):
    """One piece of a result; counters are those since the piece before."""

    def bytes(self) -> bytes: ...
    def elapsed(self) -> float: ...
    def rows_read(self) -> int: ...
    def bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...


class Connection(Protocol):
    def query(self, sql: bytes | str, format: str, params: Mapping[str, str] = ...) -> Chunk: ...  # noqa: A002
    def send_query(self, sql: bytes | str, format: str, params: Mapping[str, str] = ...) -> object: ...  # noqa: A002
    def streaming_fetch_result(self, stream: object) -> Chunk: ...
    def streaming_cancel_query(self, stream: object) -> None: ...
    def classify_query(self, sql: bytes | str, database: str) -> Mapping[str, object]: ...
    def close(self) -> None: ...


class CannotOpenEngine(Exception):
    """The data folder cannot be used; the message is one line with the engine's own reason."""


class Engine:
    """`folder` holds data/, config/ and spool/; another process on the same folder raises CannotOpenEngine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.spool = self.folder / "spool"
        self._address = f"{self.folder / 'data'}?config-file={_write_config(self.folder / 'config')}"
        # Kept open: the engine lives as long as one connection does.
        self._keeper = _open(self._address)
        # Only the process that holds the lock may empty the spool.
        shutil.rmtree(self.spool, ignore_errors=True)
        self.spool.mkdir(parents=True)
        with self.connect("admin", "default") as connection:
            run(connection, f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
            self.version, self.timezone = _cells(connection, "SELECT version(), timezone()")
            names = _cells(connection, "SELECT name FROM system.table_functions")
        self.table_functions = frozenset(name.lower() for name in names)

    @contextmanager
    def connect(self, user: UserName, database: str, settings: Mapping[str, str] | None = None) -> Iterator[Connection]:
        """A connection nobody used before, set up for this user: after a failed query the next one on the same
        connection was seen to return the failed one's rows. Settings come last, so the profile judges them.
        """
        connection = cast("Connection", _chdb().connect(self._address))
        try:
            setup = session_setup(user, database)
            if settings:
                setup.append("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items()))
            run(connection, "; ".join(setup))
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        self._keeper.close()


def run(connection: Connection, sql: bytes | str, params: Mapping[str, str] | None = None, form: str = "TSV") -> Chunk:
    """The whole result at once; engine errors become EngineError."""
    try:
        return connection.query(sql, form, params=params or {})
    except RuntimeError as exc:
        raise EngineError(str(exc)) from exc


def quote(value: str) -> str:
    """A string literal; the engine turns quoted numbers into numbers where a setting wants one."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _cells(connection: Connection, sql: str) -> list[str]:
    return run(connection, sql).bytes().decode().split()


def _chdb() -> Any:
    # Imported late: loading the engine takes a second, which `--help` and a taken port need not wait for.
    from chdb import _chdb as module  # noqa: PLC0415

    return module


def _open(address: str) -> Connection:
    """The reason a folder is refused goes to stderr only, so stderr is caught while opening."""
    module = _chdb()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            return cast("Connection", module.connect(address))
        except RuntimeError as exc:
            caught.seek(0)
            found = _REASON.search(caught.read())
            reason = found.group().decode(errors="replace") if found else str(exc)
            raise CannotOpenEngine(" ".join(reason.split())) from exc
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _write_config(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    users, config = folder / "users.xml", folder / "config.xml"
    _replace(users, users_config())
    _replace(
        config,
        "<clickhouse>"
        f"<users_config>{escape(str(users))}</users_config>"
        f"<max_server_memory_usage>{SERVER_MEMORY_BYTES_MAX}</max_server_memory_usage>"
        f"<background_pool_size>{BACKGROUND_THREADS}</background_pool_size>"
        "<query_log><database>system</database><table>query_log</table>"
        "<flush_interval_milliseconds>2000</flush_interval_milliseconds>"
        "<ttl>event_date + INTERVAL 3 DAY DELETE</ttl></query_log>"
        "</clickhouse>",
    )
    return config


def _replace(path: Path, text: str) -> None:
    """Whole or not at all: a second process may be about to write the same file before it loses the lock."""
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
