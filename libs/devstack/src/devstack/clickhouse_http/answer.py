"""From a call to its answer, on a thread of its own: check, run, encode, compress.

Small answers come back whole. Bigger ones are streamed piece by piece through an Outlet, or, when the client asked
for wait_end_of_query, spooled first, so that an error still arrives as an HTTP status.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from devstack.clickhouse_http import guard
from devstack.clickhouse_http.delivery import Answer, Delivery, Headers
from devstack.clickhouse_http.engine import Engine
from devstack.clickhouse_http.inserts import statement_of
from devstack.clickhouse_http.outlet import Outlet
from devstack.clickhouse_http.refusals import (
    QUERY_IS_TOO_LARGE,
    QUERY_WAS_CANCELLED,
    READONLY,
    Refusal,
    http_status,
)
from devstack.clickhouse_http.request import SQL_BYTES_MAX, Call
from devstack.clickhouse_http.results import WHOLE_RESULT_BYTES_MAX, Query, streams
from devstack.clickhouse_http.running import Running, RunningQueries
from devstack.clickhouse_http.sql_text import Statement, describe, split_insert, tokens

_NOT_IN_HEADERS: Final = re.compile(r"[^ -~]")


@dataclass(frozen=True)
class Desk:
    """What every answer needs: the engine, the list of running queries, and the name this server goes by."""

    engine: Engine
    running: RunningQueries
    display_name: str


def answer(desk: Desk, running: Running, outlet: Outlet) -> Answer | None:
    """The whole answer, or None when it went out through the outlet already.

    An error after the first piece is written in ClickHouse's exception block and the connection is then cut
    without a last chunk: no client can take the part for the whole.
    """
    try:
        return _answer(desk, running, outlet)
    except Refusal as refusal:
        if outlet.begun:
            raise
        return refused(refusal, desk, running.call.query_id)
    finally:
        desk.running.leave(running)


def refused(refusal: Refusal, desk: Desk, query_id: str | None = None) -> Answer:
    headers = _headers(desk, query_id or "")
    headers += [
        (b"content-type", b"text/plain; charset=UTF-8"),
        (b"x-clickhouse-exception-code", str(refusal.code).encode()),
    ]
    body = f"{refusal} (version {desk.engine.version})\n".encode(errors="replace")
    return Answer(http_status(refusal.code), headers, body)


def _headers(desk: Desk, query_id: str, timezone: str | None = None) -> Headers:
    texts = {
        b"x-clickhouse-query-id": query_id,
        b"x-clickhouse-server-display-name": desk.display_name,
        b"x-clickhouse-timezone": timezone or desk.engine.timezone,
    }
    # Clients choose the first and the last: line ends in them would begin headers of their making.
    return [(name, _NOT_IN_HEADERS.sub("?", text).encode()) for name, text in texts.items()]


def _answer(desk: Desk, running: Running, outlet: Outlet) -> Answer | None:
    call = running.call
    guard.check_settings(call.user, call.settings)
    guard.check_database(call.user, call.database)
    data = call.data()
    sql = call.sql + b"\n" if call.sql else b""
    sql += data.read(SQL_BYTES_MAX)
    if (rows := desk.running.kill_by_id(call, sql)) is not None:
        return _killed(desk, call, rows)
    with ExitStack() as open_until_answered:
        statement = _checked(desk, call, sql)
        if statement.kind == b"INSERT":
            sql = open_until_answered.enter_context(statement_of(sql, data, desk.engine.spool))
        elif data.read(1):
            raise Refusal(QUERY_IS_TOO_LARGE, f"The query is larger than {SQL_BYTES_MAX} bytes.")
        if call.user == "gateway":
            sql = guard.startup_statement(sql) or sql
        form = statement.format or call.default_format
        query = Query(
            sql, call.params, form, streamed=statement.reads and streams(form, by_clause=statement.format is not None)
        )
        connection = open_until_answered.enter_context(
            desk.engine.connect(call.user, call.database, _engine_settings(call, query))
        )
        report = connection.classify_query(sql, call.database)
        guard.check_statement_count(report)
        # The engine's word, not ours: WITH ... INSERT begins like a read.
        reads = getattr(report["query_class"], "name", "") == "READ_ONLY"
        query = replace(query, streamed=query.streamed and reads)
        running.may_stop = reads
        if running.cancelled.is_set():
            raise Refusal(QUERY_WAS_CANCELLED, "Query was cancelled.")
        head = _headers(desk, call.query_id, call.settings.get("session_timezone"))
        return Delivery(call, head, outlet, desk.engine.spool).send(connection, query, answers=statement.answers)


def _checked(desk: Desk, call: Call, sql: bytes) -> Statement:
    """Only the statement is looked at: the data of an INSERT may hold any words."""
    head = split_insert(sql[:SQL_BYTES_MAX]) if sql.lstrip()[:6].upper() == b"INSERT" else None
    words = list(tokens(sql[: head.statement_end] if head else sql))
    statement = describe(words)
    if call.user != "gateway" or guard.startup_statement(sql) is None:
        guard.check_text(call.user, statement, words, call.params, desk.engine.table_functions)
    if call.is_get and not statement.answers:
        raise Refusal(
            READONLY, "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly."
        )
    return statement


def _engine_settings(call: Call, query: Query) -> dict[str, str]:
    settings = {"log_comment": call.query_id, **call.settings, "query_cache_tag": call.tag}
    if not query.streamed:
        asked = settings.get("max_result_bytes", "")
        whole = WHOLE_RESULT_BYTES_MAX
        settings["max_result_bytes"] = str(min(int(asked) or whole, whole) if asked.isdecimal() else whole)
    return settings


def _killed(desk: Desk, call: Call, rows: list[tuple[str, str, str]]) -> Answer:
    headers = [*_headers(desk, call.query_id), (b"x-clickhouse-format", b"TabSeparated")]
    return Answer(200, headers, "".join("\t".join(row) + "\n" for row in rows).encode())
