"""Where the rows of `bigdata query` go: one page, all pages, or a stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, cast

from bigdata_client.client import Client, StreamFormat
from bigdata_client.command.outcome import Exit, Stop, say
from bigdata_client.command.output import json_text, text_of
from bigdata_client.command.rows import PageFormat, binary_out, write_pages
from bigdata_client.queries import QueryResult

_BINARY = frozenset({"parquet", "arrow"})
_STREAMED = frozenset({"ndjson", "csv", "parquet", "arrow"})


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


@dataclass
class Delivery:
    """`to` None is stdout. What the person should know goes to stderr."""

    client: Client
    form: Form
    to: Path | None = None
    wait_for_upload: str | None = None

    def run(self, asked: Mapping[str, Any], *, follow: bool = False) -> None:
        if self.form == "table" and self.to is not None:
            raise Stop("a table is for people; with --to give --output json, ndjson, csv or parquet", Exit.USAGE)
        if self.to is not None and not self.to.parent.is_dir():
            raise Stop(f"{self.to.parent}: there is no such folder", Exit.USAGE)
        if follow:
            self._every_page(asked)
        elif self.form in _STREAMED:
            self._stream(asked)
        else:
            self._one_page(asked)

    def _one_page(self, asked: Mapping[str, Any]) -> None:
        result = self.client.query(asked, wait_for_upload=self.wait_for_upload)
        with self._file() as file:
            if self.form == "json":
                file.write(json_text(asdict(result), indent=2) + "\n")
                return
            write_pages([result], "table", file, asked.get("select") or ())
        _say_cost(result)

    def _every_page(self, asked: Mapping[str, Any]) -> None:
        if self.form in _BINARY:
            raise Stop(
                f"--follow reads pages of JSON; for {self.form} leave it away: --limit goes to a million there",
                Exit.USAGE,
            )
        credits_used, rows, pages = 0.0, 0, 0

        def counted() -> Iterator[QueryResult]:
            nonlocal credits_used, rows, pages
            for page in self.client.pages(asked):
                credits_used += page.metadata.credits_used
                rows += len(page)
                pages += 1
                yield page

        with self._file() as file:
            write_pages(counted(), cast("PageFormat", self.form.value), file, asked.get("select") or ())
        say(f"{rows:,} rows in {pages} pages; credits used {text_of(credits_used)}")

    def _stream(self, asked: Mapping[str, Any]) -> None:
        form = cast("StreamFormat", self.form.value)
        if self.to is not None:
            done = self.client.query_to_file(self.to, asked, format=form, wait_for_upload=self.wait_for_upload)
        elif form in _BINARY and sys.stdout.isatty():
            raise Stop(f"{form} is binary: give --to FILE, or a pipe", Exit.USAGE)
        else:
            out = binary_out()
            done = self.client.query_to(out, asked, format=form, wait_for_upload=self.wait_for_upload)
            out.flush()
        where = f" in {self.to}" if self.to else ""
        say(f"{done.bytes_written:,} bytes{where}; what it cost: bigdata receipt {done.query_id}")

    @contextmanager
    def _file(self) -> Iterator[IO[str]]:
        if self.to is None:
            yield sys.stdout
        else:
            with self.to.open("w", encoding="utf-8", newline="") as file:
                yield file


def _say_cost(result: QueryResult) -> None:
    meta = result.metadata
    of = "" if meta.total_records is None else f" of {meta.total_records:,}"
    say(
        f"{meta.returned:,}{of} rows in {meta.response_time:.0f} ms; credits used {text_of(meta.credits_used)}, "
        f"left {text_of(meta.credits_remaining)}; query {meta.query_id}"
    )
    if meta.next_cursor:
        say(f"more: --cursor {meta.next_cursor}, or --follow for all")
