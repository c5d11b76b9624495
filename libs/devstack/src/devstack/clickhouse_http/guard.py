"""What a request may say, where grants and profile constraints do not reach.

Everybody: one statement, and no INTO OUTFILE or FROM INFILE, which the HTTP interface of ClickHouse does not have
either and which inside this process would write and read the server's own files.
Gateway and ingest: no scalar file() and no python(), and no system tables but a few for ingest: the embedded engine
lets every role read all of them, and takes no setting that would make it ask for a grant.
Gateway: reading statements only, no table function that reaches outside the data, only listed
settings, and no text the lexer could read differently from the engine.
For the gateway these are a boundary. For ingest, whose text is not held to that last rule, they are a seat belt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

from devstack.clickhouse_http.refusals import (
    ACCESS_DENIED,
    BAD_ARGUMENTS,
    READONLY,
    SETTING_CONSTRAINT_VIOLATION,
    SYNTAX_ERROR,
    UNKNOWN_SETTING,
    Refusal,
)
from devstack.clickhouse_http.sql_text import Statement, Token
from devstack.clickhouse_http.users import DATABASE, GATEWAY_LIMITS, UserName

_FILE_CLAUSES: Final = ((b"INTO", b"OUTFILE"), (b"FROM", b"INFILE"))
_FILE_FUNCTIONS: Final = frozenset({"file", "python"})
# They would send rows to a model's address.
_MODEL_FUNCTIONS: Final = frozenset(
    {"aiclassify", "aiembed", "aiextract", "aifilter", "aigenerate", "airedact", "aisimilarity", "aitranslate"}
)
# Table functions that make rows out of nothing but their arguments.
_HARMLESS: Final = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generate_series", "generateseries", "null", "values", "format"}
)
_SYSTEM: Final = frozenset({"system", "information_schema"})
# What tells ingest about its own tables; their rows are limited to those its role may see.
_INGEST_SYSTEM_TABLES: Final = frozenset(
    {
        "columns",
        "data_skipping_indices",
        "databases",
        "merges",
        "mutations",
        "one",
        "parts",
        "projections",
        "settings",
        "tables",
    }
)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_GATEWAY_STATEMENTS: Final = frozenset({b"SELECT", b"WITH", b"FROM", b"EXPLAIN", b"DESCRIBE", b"DESC", b"EXISTS"})

# What the gateway may set besides its limits: none of these changes which rows are read or counted.
_GATEWAY_HARMLESS: Final = frozenset(
    {
        "cast_string_to_dynamic_use_inference",
        "date_time_input_format",
        "date_time_output_format",
        "exact_rows_before_limit",
        "log_comment",
        "optimize_read_in_order",
        "session_timezone",
    }
)
# Settings of the HTTP interface itself: this server acts on them, the engine never sees them.
TRANSPORT_SETTINGS: Final = frozenset(
    {
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "http_response_buffer_size",
        "http_wait_end_of_query",
        "http_zlib_compression_level",
        "send_progress_in_http_headers",
        "wait_end_of_query",
    }
)
_OUTPUT_PREFIX: Final = "output_format_"

# The only statement about system tables the gateway may send, byte for byte: clickhouse-connect asks it when it
# connects. Recognising it is safer than a grant, because a grant on system.settings would have to come with every
# word of SQL that can surround it; and the answer marks as readonly what the gateway's profile refuses, so that
# the client does not even try, exactly as it would on a server with readonly=1.
_STARTUP_SETTINGS: Final = re.compile(
    rb"\s*SELECT name, value, readonly FROM system\.settings LIMIT 10000\s*(FORMAT Native)?\s*"
)


def may_set(name: str) -> bool:
    """Whether the gateway may send this setting at all; its value is judged by the profile's constraints."""
    return name in GATEWAY_LIMITS or name in _GATEWAY_HARMLESS or name.startswith(_OUTPUT_PREFIX)


def startup_statement(sql: bytes) -> bytes | None:
    """The gateway's version of clickhouse-connect's start-up question, or None for any other text."""
    found = _STARTUP_SETTINGS.fullmatch(sql)
    if found is None:
        return None
    names = ", ".join(f"'{name}'" for name in sorted({*GATEWAY_LIMITS, *_GATEWAY_HARMLESS, *TRANSPORT_SETTINGS}))
    changeable = f"name IN ({names}) OR startsWith(name, '{_OUTPUT_PREFIX}')"
    return (
        f"SELECT name, value, toUInt8(NOT ({changeable})) AS readonly FROM system.settings LIMIT 10000 "  # noqa: S608
    ).encode() + (found.group(1) or b"")


def check_settings(user: UserName, settings: Mapping[str, str]) -> None:
    for name in settings:
        if not _PLAIN_NAME.fullmatch(name):
            raise Refusal(UNKNOWN_SETTING, f"Unknown setting '{name}'.")
        if user == "gateway" and not may_set(name):
            raise Refusal(READONLY, f"Cannot modify '{name}' setting in readonly mode.")


def check_database(user: UserName, database: str) -> None:
    if user == "gateway" and database != DATABASE:
        raise Refusal(ACCESS_DENIED, f"gateway: Not enough privileges. It may only use database {DATABASE}.")


def check_statement_count(report: Mapping[str, object]) -> None:
    """`report` is the engine's own count; text it cannot parse counts as 0 and fails with its syntax error."""
    if isinstance(count := report["statement_count"], int) and count > 1:
        raise Refusal(SYNTAX_ERROR, "Multi-statements are not allowed.")


def check_text(
    user: UserName,
    statement: Statement,
    words: list[Token],
    params: Mapping[str, str],
    table_functions: frozenset[str],
) -> None:
    for pair in pairwise(words):
        if (pair[0].keyword, pair[1].keyword) in _FILE_CLAUSES:
            raise Refusal(BAD_ARGUMENTS, "INTO OUTFILE and FROM INFILE are not allowed over HTTP.")
    if user == "admin":
        return
    _refuse_calls(user, words, _FILE_FUNCTIONS)
    _refuse_system(user, words, _INGEST_SYSTEM_TABLES if user == "ingest" else frozenset())
    _check_identifier_params(words, params)
    if [word.keyword for word in words[:2]] == [b"KILL", b"QUERY"]:
        # Inside, all users are one: any other condition could reach another user's queries.
        raise Refusal(
            ACCESS_DENIED, f"{user}: Not enough privileges. Only KILL QUERY WHERE query_id = '...' is allowed."
        )
    if user == "gateway":
        if statement.kind not in _GATEWAY_STATEMENTS:
            raise Refusal(ACCESS_DENIED, "gateway: Not enough privileges. It may only read.")
        _refuse_ambiguous(words)
        _refuse_calls(user, words, (table_functions | _MODEL_FUNCTIONS) - _HARMLESS)
        _check_settings_clauses(words)


def _refuse_ambiguous(words: Iterable[Token]) -> None:
    for token in words:
        odd_sign = token.kind == "sign" and (not b" " < token.text < b"\x7f" or token.text in b"'\"`\\$#")
        odd_name = token.kind == "quoted" and b"\\" in token.text
        if odd_sign or odd_name or token.kind == "heredoc":
            raise Refusal(SYNTAX_ERROR, f"Syntax error: failed at position {token.start + 1}.")


def _name(token: Token) -> str:
    if token.kind == "quoted":
        return token.text[1:-1].decode(errors="replace").lower()
    return token.text.decode().lower() if token.kind == "word" else ""


def _refuse_calls(user: UserName, words: list[Token], banned: frozenset[str]) -> None:
    for token, after in pairwise(words):
        # Escapes inside quotes could spell any name.
        hidden = token.kind == "quoted" and b"\\" in token.text
        if after.text == b"(" and (hidden or _name(token) in banned):
            raise Refusal(ACCESS_DENIED, f"{user}: Not enough privileges to call {_name(token)}().")


def _refuse_system(user: UserName, words: list[Token], allowed: frozenset[str]) -> None:
    refusal = Refusal(ACCESS_DENIED, f"{user}: Not enough privileges to read system tables.")
    for at, token in enumerate(words):
        name = _name(token)
        if token.kind == "quoted" and name.partition(".")[0] in _SYSTEM and "." in name:
            raise refusal
        if name in _SYSTEM and [word.text for word in words[at + 1 : at + 2]] == [b"."]:
            table = _name(words[at + 2]) if at + 2 < len(words) else ""
            if name != "system" or table not in allowed:
                raise refusal


def _check_identifier_params(words: list[Token], params: Mapping[str, str]) -> None:
    """`{name:Identifier}` would bring a name past every check above: only plain ones, and never a database's."""
    for at, token in enumerate(words):
        if token.text != b"{" or [word.keyword for word in words[at + 3 : at + 4]] != [b"IDENTIFIER"]:
            continue
        value = params.get(words[at + 1].text.decode(), "")
        after = [word.text for word in words[at + 5 : at + 6]]
        if not _PLAIN_NAME.fullmatch(value) or value.lower() in _SYSTEM or after == [b"("]:
            raise Refusal(ACCESS_DENIED, "Not enough privileges to name this in an Identifier parameter.")


def _check_settings_clauses(words: list[Token]) -> None:
    """Only limits and harmless settings, and only at the top: the engine applies those of a subquery unjudged."""
    for at, token in enumerate(words[:-2]):
        if token.keyword != b"SETTINGS" or words[at + 2].text != b"=":
            continue
        if token.depth:
            raise Refusal(SETTING_CONSTRAINT_VIOLATION, "SETTINGS are not allowed in a subquery.")
        for name in _names_set(words[at + 1 :]):
            if not may_set(name):
                raise Refusal(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed.")


def _names_set(words: list[Token]) -> list[str]:
    """Everything left of an `=` after SETTINGS: reading too much here refuses, it never permits."""
    return [_name(token) for token, after in pairwise(words) if after.text == b"=" and token.depth == 0]
