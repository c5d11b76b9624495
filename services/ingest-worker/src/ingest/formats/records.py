"""Where the records of a text file begin and end: lines, except that a quoted CSV field may hold line breaks.

A pure function of the bytes from a record's first one on, so that whoever starts at a record boundary, the planner
that cuts or a loader that reads one piece, finds the same records:
- a record whose quotes follow RFC 4180 ends at the first line break outside of quotes;
- any other (a quote in the middle of a field, one that never closes, or only after RECORD_BYTES_MAX) is one physical
  line and is marked ODD, so one stray quote costs one line and not the rest of the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

WINDOW_BYTES: Final = 16 << 20
RECORD_BYTES_MAX: Final = 1 << 20
RAW_BYTES_KEPT: Final = 64 << 10
REGULAR, ODD, TOO_LONG = 0, 1, 2
_LF, _CR = 10, 13

Positions = npt.NDArray[np.int64]


class Source(Protocol):
    def read(self, size: int) -> bytes:
        """Exactly this many bytes, fewer only at the end."""


@dataclass(frozen=True)
class Dialect:
    """`quote` and `delimiter` are single bytes; without a quote every line is a record (JSON lines)."""

    quote: bytes = b""
    delimiter: bytes = b""
    carriage_returns: bool = True  # a lone CR ends a line too, as it does for CSV readers


@dataclass(frozen=True)
class Place:
    """Of a record in the file: its first byte, and its line and data row, which count from 1."""

    offset: int = 0
    line: int = 1
    row: int = 1


@dataclass(frozen=True)
class Records:
    """The complete, not blank records at the beginning of `buffer`; positions count from its first byte."""

    buffer: bytes
    starts: Positions
    ends: Positions  # without the line break
    lines: Positions
    kinds: npt.NDArray[np.uint8]
    consumed: int
    lines_consumed: int
    place: Place = Place()  # of the buffer's first byte

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, index: int) -> bytes:
        return self.buffer[self.starts[index] : self.ends[index]]

    def raw(self, index: int) -> bytes:
        """As much of a record as a rejected row keeps."""
        return self.text(index)[:RAW_BYTES_KEPT]

    def first(self, count: int) -> "Records":
        """The first `count`; what follows is left for the next piece."""
        if count >= len(self):
            return self
        cut = slice(0, count)
        return Records(
            self.buffer,
            self.starts[cut],
            self.ends[cut],
            self.lines[cut],
            self.kinds[cut],
            int(self.starts[count]),
            int(self.lines[count]),
        )


def pieces(
    source: Source, dialect: Dialect, place: Place = Place(), *, at_most: int, first: int | None = None
) -> Iterator[Records]:
    """The records of a source in pieces of `at_most` records (the first of `first`) or one window of bytes, whichever
    is less.

    `place` is that of the source's first byte, which begins a record.
    """
    buffer, ended = b"", False
    limit = first or at_most
    while True:
        if not ended and len(buffer) < WINDOW_BYTES:
            more = source.read(WINDOW_BYTES - len(buffer))
            ended = len(buffer) + len(more) < WINDOW_BYTES
            buffer += more
        if not buffer:
            return
        found, limit = scan(buffer, dialect, final=ended).first(limit), at_most
        if found.consumed:
            rest = buffer[found.consumed :]
        else:
            found, rest = _giant(buffer, source, dialect)
        yield replace(found, place=place)
        place = Place(place.offset + found.consumed, place.line + found.lines_consumed, place.row + len(found))
        buffer = rest


def scan(buffer: bytes, dialect: Dialect, *, final: bool) -> Records:
    """The records that are complete in the buffer, which begins at a record; `final`: nothing follows it."""
    text = np.frombuffer(buffer, np.uint8)
    # Most files have none, and are read in half the time.
    returns = b"\r" in buffer
    breaks = _line_breaks(text, dialect if returns else replace(dialect, carriage_returns=False), final=final)
    stops = _line_stops(text, breaks) if returns else breaks
    if dialect.quote and dialect.quote in buffer:
        ends, odd = _Quotes(text, breaks, stops, dialect, final=final).records()
    else:
        ends, odd = np.arange(len(breaks)), np.zeros(len(breaks), np.bool_)
    return _assembled(buffer, breaks, stops, ends, odd)


def _assembled(
    buffer: bytes, breaks: Positions, stops: Positions, ends: Positions, odd: npt.NDArray[np.bool_]
) -> Records:
    """`ends` are indexes of the breaks that end a record."""
    previous = np.concatenate([[-1], ends[:-1]]).astype(np.int64) if len(ends) else ends
    starts = np.where(previous < 0, 0, breaks[previous] + 1)
    stops = stops[ends]
    kinds = np.where(odd, ODD, REGULAR).astype(np.uint8)
    kinds[stops - starts > RECORD_BYTES_MAX] = TOO_LONG
    kept = stops > starts
    consumed = min(int(breaks[ends[-1]]) + 1, len(buffer)) if len(ends) else 0
    lines = previous + 1
    lines_consumed = int(ends[-1]) + 1 if len(ends) else 0
    return Records(buffer, starts[kept], stops[kept], lines[kept], kinds[kept], consumed, lines_consumed)


def _line_breaks(text: npt.NDArray[np.uint8], dialect: Dialect, *, final: bool) -> Positions:
    """The last byte of each line break; at the end of the file one is imagined where it is missing."""
    found = np.flatnonzero(text == _LF)
    returns = np.flatnonzero(text == _CR) if dialect.carriage_returns else found[:0]
    if len(returns):
        follower = text[np.minimum(returns + 1, len(text) - 1)]
        alone = returns[follower != _LF]
        if not final and len(alone) and alone[-1] == len(text) - 1:
            alone = alone[:-1]  # its LF may be the next byte
        if len(alone):
            found = np.sort(np.concatenate([found, alone]))
    if final and len(text) and (not len(found) or found[-1] != len(text) - 1):
        found = np.append(found, len(text))
    return found


def _line_stops(text: npt.NDArray[np.uint8], breaks: Positions) -> Positions:
    """Where the content before each break ends. CR LF: the break is the LF, the CR is no content either."""
    after_return = (breaks > 0) & (breaks < len(text)) & (text[np.maximum(breaks - 1, 0)] == _CR)
    after_return &= text[np.minimum(breaks, len(text) - 1)] == _LF
    stops: Positions = breaks - after_return
    return stops


class _Quotes:
    """Record ends of a buffer with quotes.

    Whether a quote opens or closes depends only on the parity of its number since the last certain record boundary.
    Faults and record ends are therefore found once for either parity, and each stray quote costs a few binary
    searches instead of another pass.
    """

    def __init__(
        self, text: npt.NDArray[np.uint8], breaks: Positions, stops: Positions, dialect: Dialect, *, final: bool
    ) -> None:
        self._size, self._breaks, self._stops, self._final = len(text), breaks, stops, final
        self._quotes = np.flatnonzero(text == dialect.quote[0])
        self._before = np.searchsorted(self._quotes, breaks)  # quotes before each break
        structure = np.zeros(256, np.bool_)
        structure[[dialect.delimiter[0], dialect.quote[0], _LF, _CR]] = True
        opens = structure[text[np.maximum(self._quotes - 1, 0)]] | (self._quotes == 0)
        closes = structure[text[np.minimum(self._quotes + 1, self._size - 1)]] | (self._quotes == self._size - 1)
        turn = np.arange(len(self._quotes)) % 2
        self._faults = [np.flatnonzero(~np.where(turn == parity, opens, closes)) for parity in (0, 1)]
        self._ends = [np.flatnonzero(self._before % 2 == parity) for parity in (0, 1)]
        self._end_places = [breaks[ends] for ends in self._ends]

    def records(self) -> tuple[Positions, npt.NDArray[np.bool_]]:
        """Indexes of the breaks that end a record, and which of these records are odd."""
        runs: list[Positions] = []
        odd_at: list[int] = []
        count = next_break = 0
        while next_break < len(self._breaks):
            run = self._regular_run(next_break)
            runs.append(run)
            count += len(run)
            last = int(run[-1]) if len(run) else next_break - 1
            if last + 1 >= len(self._breaks) or not self._is_odd(last):
                break
            runs.append(np.array([last + 1]))
            odd_at.append(count)
            count += 1
            next_break = last + 2
        ends = np.concatenate(runs) if runs else np.empty(0, np.int64)
        odd = np.zeros(len(ends), np.bool_)
        odd[odd_at] = True
        return ends, odd

    def _regular_run(self, next_break: int) -> Positions:
        """The ends of the regular records from this break's line on, up to the first record that is not."""
        quote = int(self._before[next_break - 1]) if next_break else 0
        parity = quote % 2
        ends, places, faults = self._ends[parity], self._end_places[parity], self._faults[parity]
        first = int(np.searchsorted(ends, next_break))
        fault = int(np.searchsorted(faults, quote))
        stop = len(ends)
        if fault < len(faults):
            at = int(faults[fault])
            opener = at if at % 2 == parity else at - 1
            stop = int(np.searchsorted(places, self._quotes[opener]))
        run = ends[first : max(first, stop)]
        return run[: self._first_too_long(run, next_break)]

    def _first_too_long(self, run: Positions, next_break: int) -> int:
        """A quoted field that closes only after the limit is taken for one that was never meant to be open."""
        before = np.concatenate([[next_break - 1], run[:-1]]).astype(np.int64) if len(run) else run
        sizes = self._stops[run] - np.where(before < 0, 0, self._breaks[before] + 1)
        too_long = np.flatnonzero((sizes > RECORD_BYTES_MAX) & (run - before > 1))
        return int(too_long[0]) if len(too_long) else len(run)

    def _is_odd(self, last: int) -> bool:
        """Whether the record after this break is certainly not regular, rather than not complete yet."""
        start = int(self._breaks[last]) + 1 if last >= 0 else 0
        quote = int(self._before[last]) if last >= 0 else 0
        faults = self._faults[quote % 2]
        fault = int(np.searchsorted(faults, quote))
        # A fault further on lies in this record, which has no regular end before it. One byte more than the limit:
        # the last one may be a CR that waits for its LF.
        return self._final or fault < len(faults) or self._size - start > RECORD_BYTES_MAX + 1


def _giant(buffer: bytes, source: Source, dialect: Dialect) -> tuple[Records, bytes]:
    """A line longer than the window: one record that is too long. Skipped while reading, never held."""
    kept, skipped = buffer[:RAW_BYTES_KEPT], 0
    while buffer and (end := _after_break(buffer, dialect)) is None:
        held = 1 if dialect.carriage_returns and buffer.endswith(b"\r") else 0  # half a break perhaps
        skipped += len(buffer) - held
        more = source.read(WINDOW_BYTES)
        buffer = buffer[len(buffer) - held :] + more
        if not more:
            end = len(buffer)
            break
    skipped, rest = skipped + (end or 0), buffer[end or 0 :]
    one = np.zeros(1, np.int64)
    kinds = np.full(1, TOO_LONG, np.uint8)
    return Records(kept, one, one + len(kept), one, kinds, skipped, 1), rest


def _after_break(buffer: bytes, dialect: Dialect) -> int | None:
    """Where the line after the first break begins; None when the buffer does not show it."""
    feed = buffer.find(b"\n")
    back = buffer.find(b"\r", 0, feed if feed >= 0 else None) if dialect.carriage_returns else -1
    if back < 0:
        return feed + 1 or None
    if back + 1 == len(buffer):
        return None
    return back + (2 if back + 1 == feed else 1)
