"""Reading SQL far enough to know its kind, its FORMAT clause and where the data of an INSERT begins.

Not a parser: a lexer with ClickHouse's rules for quotes, comments and heredocs, over bytes because a query may
carry binary values. What it cannot be sure of, `guard.py` refuses for the reading user.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(
    rb"""
      (?P<space>\s++|--[^\n]*+|\#[ !][^\n]*+|//[^\n]*+)
    | (?P<comment>/\*)
    | (?P<string>'(?:[^'\\]++|\\.|'')*+')
    | (?P<quoted>"(?:[^"\\]++|\\.|"")*+"|`(?:[^`\\]++|\\.|``)*+`)
    | (?P<heredoc>\$(?P<tag>\w*+)\$.*?\$(?P=tag)\$)
    | (?P<word>[A-Za-z_][A-Za-z0-9_$]*+)
    | (?P<number>[0-9][A-Za-z0-9_]*+)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_OPENING, _CLOSING = (b"(", b"[", b"{"), (b")", b"]", b"}")
_LINE_END = re.compile(rb"[ \t\r]*\n?")
_READS = frozenset({b"SELECT", b"WITH", b"FROM"})
_SHOWS = frozenset({b"SHOW", b"DESCRIBE", b"DESC", b"EXPLAIN", b"EXISTS", b"CHECK", b"KILL", b"BACKUP", b"RESTORE"})


class Token(NamedTuple):
    kind: str
    text: bytes
    start: int
    depth: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def keyword(self) -> bytes:
        """Upper case for bare words, empty for everything else: a quoted name is never a keyword."""
        return self.text.upper() if self.kind == "word" else b""


def tokens(sql: bytes) -> Iterator[Token]:
    """Everything but blanks and comments; block comments nest, as they do in the engine."""
    at, depth = 0, 0
    while found := _TOKEN.match(sql, at):
        kind, text = found.lastgroup or "sign", found.group()
        at = found.end()
        if kind == "space":
            continue
        if kind == "comment":
            at = _comment_end(sql, at)
            continue
        if text in _CLOSING:
            depth -= 1
        yield Token("heredoc" if kind == "tag" else kind, text, found.start(), depth)
        if text in _OPENING:
            depth += 1


def _comment_end(sql: bytes, at: int) -> int:
    nested = 1
    while nested and (edge := _COMMENT_EDGE.search(sql, at)):
        nested += 1 if edge.group() == b"/*" else -1
        at = edge.end()
    return len(sql) if nested else at


@dataclass(frozen=True)
class Statement:
    """`kind` is the first keyword in upper case; `format` the name in the FORMAT clause, if there is one."""

    kind: bytes
    format: str | None

    @property
    def reads(self) -> bool:
        """A query the engine can stream and that may be killed at any moment."""
        return self.kind in _READS

    @property
    def answers(self) -> bool:
        """It returns rows, so the answer names a format."""
        return self.reads or self.kind in _SHOWS


def describe(sql_tokens: list[Token]) -> Statement:
    first = next((token for token in sql_tokens if token.text != b"("), None)
    return Statement(first.keyword if first else b"", _format_clause(sql_tokens))


def _format_clause(sql_tokens: list[Token]) -> str | None:
    """The last top-level `FORMAT name` that ends the query: a column may well be called format."""
    for at in range(len(sql_tokens) - 2, -1, -1):
        token, name = sql_tokens[at], sql_tokens[at + 1]
        after = sql_tokens[at + 2] if at + 2 < len(sql_tokens) else None
        ends = after is None or after.text == b";" or after.keyword in {b"SETTINGS", b"INTO"}
        if token.keyword == b"FORMAT" and token.depth == 0 and name.kind == "word" and ends:
            return name.text.decode()
    return None


@dataclass(frozen=True)
class InsertHead:
    """An INSERT cut into its statement and where its data starts.

    `file_clause_at` is where `FROM INFILE` belongs; `format` is None for INSERT … SELECT, which carries no data.
    """

    format: str | None
    file_clause_at: int
    statement_end: int
    data_at: int


def split_insert(sql: bytes) -> InsertHead | None:
    """None when no clause that ends the statement was found in this much text."""
    settings_at: int | None = None
    waiting = tokens(sql)
    for token in waiting:
        if token.depth or token.kind != "word":
            continue
        word = token.keyword
        if word in {b"SELECT", b"WITH"}:
            return InsertHead(None, token.start, len(sql), len(sql))
        if word == b"SETTINGS":
            settings_at = token.start
        if word in {b"VALUES", b"FORMAT"}:
            name = token if word == b"VALUES" else next(waiting, None)
            if name is None:
                return None
            skipped = _LINE_END.match(sql, name.end)
            format_name = "Values" if word == b"VALUES" else name.text.decode()
            where = token.start if settings_at is None else settings_at
            return InsertHead(format_name, where, token.start, skipped.end() if skipped else name.end)
    return None
