"""What the planner found out about a file, as the manifest keeps it: every loader reads by it and guesses nothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from common.errors import Permanent
from ingest.formats.records import Dialect, Place

UTF8 = "utf-8"


class Unreadable(Permanent):
    """The file cannot be loaded as it is; the text says why, to whoever sent it."""


class Layout(BaseModel):
    """`offset` and `line`: where the data begin, in the file's UTF-8 form, after a byte order mark and a header."""

    model_config = ConfigDict(frozen=True)

    format: Literal["csv", "json_lines"]
    encoding: str = UTF8
    offset: int = 0
    line: int = 1
    delimiter: str = ""
    quote: str = ""
    header: tuple[str, ...] = ()

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
        """Whether a loader may start in the middle: positions in another encoding are not those in the file."""
        return self.encoding == UTF8
