"""What the planner found out about a file, as the manifest keeps it: every loader reads by it and guesses nothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from common.errors import Permanent
from ingest.formats.records import Dialect, Place

UTF8 = "utf-8"


class Unreadable(Permanent):
    """The file cannot be loaded as it is; the text says why, to whoever sent it."""


Format = Literal["csv", "json_lines", "json_array", "json_objects", "xml", "parquet"]
Compression = Literal["", "gzip", "zstd", "zip"]


class Layout(BaseModel):
    """`offset` and `line`: where the data begin, in the file's UTF-8 form, after a byte order mark and a header.

    `header`: the labels of a CSV or Parquet file; `path`: the names from an XML document's root to its records;
    `groups`: the rows that each row group of a Parquet file claims to have;
    `members`: one layout for each file of a zip, in their order, which then stand for this one.
    """

    model_config = ConfigDict(frozen=True)

    format: Format
    encoding: str = UTF8
    offset: int = 0
    line: int = 1
    delimiter: str = ""
    quote: str = ""
    header: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    compression: Compression = ""
    members: tuple["Layout", ...] = ()

    @property
    def dialect(self) -> Dialect:
        if self.format == "json_lines":
            return Dialect(carriage_returns=False)
        return Dialect(self.quote.encode(), self.delimiter.encode())

    @property
    def place(self) -> Place:
        return Place(self.offset, self.line)

    @property
    def divisible(self) -> bool:
        """Whether a loader may start in the middle: positions in another form are not those in the file."""
        return self.encoding == UTF8 and not self.compression and self.format in {"csv", "json_lines"}
