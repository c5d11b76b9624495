"""One HTTP request as a call: who asks, the SQL, its parameters, its settings, and the bytes that came with it."""

from __future__ import annotations

import io
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import parse_qsl

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError

from devstack.clickhouse_http.compression import PIECE_BYTES, Bounded
from devstack.clickhouse_http.guard import TRANSPORT_SETTINGS
from devstack.clickhouse_http.refusals import (
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    UNKNOWN_FORMAT,
    Refusal,
)
from devstack.clickhouse_http.users import DATABASE, Passwords, UserName, credentials

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BODY_BYTES_MAX: Final = 4 << 30
BODY_IN_MEMORY_BYTES_MAX: Final = 1 << 20
# The engine's own max_query_size; data that follows an INSERT does not count.
SQL_BYTES_MAX: Final = 1 << 20
FORM_BYTES_MAX: Final = 64 << 20

# Parameters of the HTTP interface that are not settings. Sessions are accepted and have no state: every request
# gets a connection of its own. client_protocol_version is ignored, which clients detect and live with.
_NOT_SETTINGS: Final = frozenset(
    {
        "client_protocol_version", "close_session", "compress", "database", "decompress", "default_format", "password",
        "query", "query_id", "quota_key", "role", "session_check", "session_id", "session_timeout", "stacktrace",
        "user",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    user: UserName
    database: str
    query_id: str
    tag: str
    sql: bytes
    body: IO[bytes]
    content_encoding: str
    params: Mapping[str, str]
    settings: Mapping[str, str]
    transport: Mapping[str, str]
    default_format: str
    accept_encoding: str
    is_get: bool

    def flag(self, name: str) -> bool:
        return self.transport.get(name, "0") not in {"0", "false", ""}

    def data(self) -> Bounded:
        """The body as it was before the client compressed it."""
        return Bounded(self.body, self.content_encoding, BODY_BYTES_MAX)


async def read_call(scope: Mapping[str, Any], receive: Receive, passwords: Passwords, spool: Path) -> Call:
    """Authenticate before the body is read, then take all of it: nothing runs on half a request."""
    headers = dict(scope["headers"])
    arguments = dict(
        parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
    )
    user = passwords.check(*credentials(headers, arguments))
    if arguments.get("compress", "0") != "0" or arguments.get("decompress", "0") != "0":
        raise Refusal(NOT_IMPLEMENTED, "ClickHouse's own block compression is not implemented; use Content-Encoding.")
    body = await _spool(receive, spool)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    if content_type.startswith(("multipart/form-data", "application/x-www-form-urlencoded")):
        form = _form(headers, body)
        # A body that merely looks like a form: curl --data says so of every body.
        if content_type.startswith("multipart/") or "query" in form:
            arguments |= form
            body = io.BytesIO()
    return _call(user, scope["method"], headers, arguments, body)


def _call(
    user: UserName, method: str, headers: Mapping[bytes, bytes], arguments: Mapping[str, str], body: IO[bytes]
) -> Call:
    named = {name: value for name, value in arguments.items() if name not in _NOT_SETTINGS}
    params = {name[6:]: named.pop(name) for name in list(named) if name.startswith("param_")}
    transport = {name: named.pop(name) for name in list(named) if name in TRANSPORT_SETTINGS}
    database = arguments.get("database") or headers.get(b"x-clickhouse-database", b"").decode("latin-1")
    form = arguments.get("default_format") or headers.get(b"x-clickhouse-format", b"").decode("latin-1")
    if form and not form.isidentifier():
        raise Refusal(UNKNOWN_FORMAT, "Unknown format.")
    _check_utf8(database, *params.values(), *named.values())
    return Call(
        user=user,
        database=database or ("default" if user == "admin" else DATABASE),
        query_id=arguments.get("query_id") or str(uuid.uuid4()),
        tag=uuid.uuid4().hex,
        sql=arguments.get("query", "").encode(errors="surrogateescape"),
        body=body,
        content_encoding=headers.get(b"content-encoding", b"").decode("latin-1").lower(),
        params=params,
        settings=named,
        transport=transport,
        default_format=form or "TabSeparated",
        accept_encoding=headers.get(b"accept-encoding", b"").decode("latin-1"),
        is_get=method == "GET",
    )


def _check_utf8(*texts: str) -> None:
    """The query may be any bytes; the engine takes everything else as text."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError as exc:
        raise Refusal(BAD_ARGUMENTS, "A parameter is not valid UTF-8.") from exc


async def _spool(receive: Receive, folder: Path) -> IO[bytes]:
    """The raw body: small ones in memory, others in the spool folder, so that memory does not grow with inserts."""
    body: IO[bytes] = tempfile.SpooledTemporaryFile(BODY_IN_MEMORY_BYTES_MAX, dir=str(folder))  # noqa: SIM115 -- Call closes it
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            body.close()
            raise ConnectionAbortedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise Refusal(QUERY_IS_TOO_LARGE, "The request body is too large.")
        body.write(chunk)
        if not message.get("more_body"):
            body.seek(0)
            return body


def _form(headers: Mapping[bytes, bytes], body: IO[bytes]) -> dict[str, str]:
    """Text fields of a form. Files would be external tables, which are not implemented."""
    fields: dict[str, str] = {}

    def take_field(field: Any) -> None:
        fields[field.field_name.decode(errors="replace")] = (field.value or b"").decode(errors="surrogateescape")

    def refuse_file(_file: object) -> None:
        raise Refusal(NOT_IMPLEMENTED, "External tables are not implemented.")

    wanted = {name.decode().title(): value for name, value in headers.items() if name == b"content-type"}
    parser = create_form_parser(wanted, take_field, refuse_file)
    left = FORM_BYTES_MAX
    try:
        while piece := body.read(PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise Refusal(QUERY_IS_TOO_LARGE, "The form is too large.")
            parser.write(piece)
        parser.finalize()
    except FormParserError as exc:
        raise Refusal(BAD_ARGUMENTS, f"Cannot read the form: {exc}") from exc
    body.seek(0)
    return fields
