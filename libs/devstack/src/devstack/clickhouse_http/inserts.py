"""INSERT with data: the data goes to a file, and INSERT … FROM INFILE reads it.

The engine's other ways in lose rows and answer success: send_insert() when it is killed or runs out of time, and
INSERT … SELECT FROM input() with inline data. The answer is sent when the statement has returned, so an
acknowledged insert is in the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from devstack.clickhouse_http.compression import PIECE_BYTES, Readable
from devstack.clickhouse_http.engine import quote
from devstack.clickhouse_http.refusals import NOT_IMPLEMENTED, QUERY_IS_TOO_LARGE, SYNTAX_ERROR, Refusal
from devstack.clickhouse_http.request import SQL_BYTES_MAX
from devstack.clickhouse_http.sql_text import InsertHead, split_insert, tokens

# Short VALUES stay in the statement, where {name:Type} parameters work.
_INLINE_VALUES_BYTES_MAX: Final = 256 << 10


@contextmanager
def statement_of(text: bytes, rest: Readable, spool: Path) -> Iterator[bytes]:
    """The statement to run for an INSERT that begins in `text` and whose data goes on in `rest`.

    A file it refers to lives as long as the context.
    """
    head = split_insert(text)
    if head is None:
        raise Refusal(SYNTAX_ERROR, "An INSERT needs VALUES, FORMAT or SELECT.")
    if head.format is None:
        yield _insert_select(text, rest)
        return
    if head.format == "Values" and len(text) < _INLINE_VALUES_BYTES_MAX:
        yield text
        return
    with tempfile.NamedTemporaryFile(dir=spool, suffix=".insert") as file:
        file.write(text[head.data_at :])
        while piece := rest.read(PIECE_BYTES):
            file.write(piece)
        file.flush()
        yield _from_file(text, head, file.name)


def _from_file(text: bytes, head: InsertHead, path: str) -> bytes:
    clause = f"FROM INFILE {quote(path)} COMPRESSION 'none' ".encode()
    settings = text[head.file_clause_at : head.statement_end]
    return text[: head.file_clause_at] + clause + settings + f" FORMAT {head.format}".encode()


def _insert_select(text: bytes, rest: Readable) -> bytes:
    if rest.read(1):
        raise Refusal(QUERY_IS_TOO_LARGE, f"The query is larger than {SQL_BYTES_MAX} bytes.")
    words = list(tokens(text))
    if any(a.keyword == b"INPUT" and b.text == b"(" for a, b in pairwise(words)):
        raise Refusal(NOT_IMPLEMENTED, "INSERT ... SELECT FROM input() is not implemented: insert into a table first.")
    return text
