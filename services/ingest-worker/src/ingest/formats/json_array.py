"""Where the elements of a JSON array, or objects that follow one another, begin and end. Nothing is parsed here.

Brackets outside of strings are counted over whole windows of bytes; each element then stands alone, so one that is bad
costs itself, and nothing of one record reaches another.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.formats import records
from ingest.formats.layout import Unreadable
from ingest.formats.records import REGULAR, TOO_LONG, Place, Positions, Records, Source

_QUOTE, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4
_BACKSLASH, _LF = ord("\\"), ord("\n")
_CLASSES: Final = np.zeros(256, np.uint8)
_CLASSES[[*b'"']], _CLASSES[[*b"{["]], _CLASSES[[*b"}]"]], _CLASSES[[*b","]] = _QUOTE, _OPEN, _CLOSE, _COMMA
_BLANK: Final = np.isin(np.arange(256), [*b" \t\r\n"])
_BLANKS_STEPPED = 64  # of an indented file; more are skipped record by record


@dataclass(frozen=True)
class _State:
    """Between two bytes."""

    depth: int = 0
    in_string: bool = False
    escaped: bool = False


@dataclass(frozen=True)
class _Ends:
    """Where elements end: the commas of an array and its bracket, or the last bytes of objects."""

    places: Positions
    closed: bool  # the array ends with the last
    state: _State  # after the window

    def __len__(self) -> int:
        return len(self.places)


def elements(source: Source, place: Place, *, array: bool, at_most: int) -> Iterator[Records]:
    """Pieces of `at_most` elements or one window, whichever is less. Raises Unreadable where an array breaks off."""
    window = records.WINDOW_BYTES
    buffer, ended = b"", False
    begin = _State(depth=int(array))
    opened = not array
    while True:
        if not ended and len(buffer) < window:
            more = source.read(window - len(buffer))
            ended = len(buffer) + len(more) < window
            buffer += more
        if not opened:
            buffer, place, opened = *_opened(buffer, place), True
        ends = _ends(buffer, begin, array=array)
        if len(ends) or ended:
            piece = _assembled(buffer, ends, array=array, ended=ended)
            found = piece.first(at_most)
            closed = (ends.closed or (ended and not array)) and found is piece
            rest = buffer[found.consumed :]
        else:
            found, rest, closed = _giant(buffer, ends.state, source, array=array)
        if array and ended and not closed and not len(ends):
            raise Unreadable(f"the JSON array breaks off after line {place.line}")
        if len(found):
            yield replace(found, place=place)
        place = Place(place.offset + found.consumed, place.line + found.lines_consumed, place.row + len(found))
        buffer = rest
        if closed:
            if buffer.strip() or source.read(window).strip():
                raise Unreadable(f"line {place.line}: there is more after the end of the JSON array")
            return


def first_value(text: bytes) -> bytes:
    """The first object of a text, to its last brace; all of the text when there is no end of it."""
    ends = _ends(text, _State(), array=False)
    return text[: int(ends.places[0]) + 1] if len(ends) else text


def _opened(buffer: bytes, place: Place) -> tuple[bytes, Place]:
    begin = buffer.index(b"[") + 1
    lines = buffer.count(b"\n", 0, begin)
    return buffer[begin:], Place(place.offset + begin, place.line + lines, place.row)


def _ends(buffer: bytes, begin: _State, *, array: bool) -> _Ends:
    text = np.frombuffer(buffer, np.uint8)
    marks = np.flatnonzero(_CLASSES[text])
    escaped, tail_escaped = _escaped(text, begin)
    classes = _CLASSES[text[marks]]
    quotes = classes == _QUOTE
    if escaped is not None:
        quotes &= ~escaped[marks]
    inside = (np.cumsum(quotes) + begin.in_string) % 2 == 1
    outside = ~inside & (classes != _QUOTE)
    places, classes = marks[outside], classes[outside]
    depths = begin.depth + np.cumsum((classes == _OPEN).astype(np.int64) - (classes == _CLOSE))
    state = _State(
        int(depths[-1]) if len(depths) else begin.depth,
        bool(inside[-1]) if len(inside) else begin.in_string,
        tail_escaped,
    )
    over = np.flatnonzero(depths < 1) if array else np.flatnonzero(depths < 0)
    stop = int(over[0]) + 1 if len(over) else len(places)
    places, classes, depths = places[:stop], classes[:stop], depths[:stop]
    if array:
        closed = bool(len(over))
        if closed and buffer[places[-1]] != ord("]"):
            raise Unreadable("the JSON array ends with a brace instead of its bracket")
        return _Ends(places[((classes == _COMMA) & (depths == 1)) | (depths < 1)], closed, state)
    return _Ends(places[(classes == _CLOSE) & (depths <= 0)], closed=False, state=state)


def _escaped(text: npt.NDArray[np.uint8], begin: _State) -> tuple[npt.NDArray[np.bool_] | None, bool]:
    """Which bytes a backslash takes the meaning of, and whether the byte after the window is one; None: no byte is."""
    slashes = np.flatnonzero(text == _BACKSLASH)
    if not len(slashes) and not begin.escaped:
        return None, False
    escaped = np.zeros(len(text) + 1, np.bool_)
    escaped[0] = begin.escaped
    if len(slashes):
        first_of_run = np.concatenate([[True], np.diff(slashes) > 1])
        runs = np.flatnonzero(first_of_run)
        within = np.arange(len(slashes)) - np.repeat(runs, np.diff(np.append(runs, len(slashes))))
        if begin.escaped and slashes[0] == 0:
            first_run = runs[1] if len(runs) > 1 else len(slashes)
            within[:first_run] += 1
        escaped[slashes[within % 2 == 0] + 1] = True
    return escaped[:-1], bool(escaped[-1])


def _assembled(buffer: bytes, ends: _Ends, *, array: bool, ended: bool) -> Records:
    text = np.frombuffer(buffer, np.uint8)
    stops = ends.places if array else ends.places + 1
    after = ends.places + 1
    if ended and not array and buffer[int(after[-1]) if len(after) else 0 :].strip():
        stops, after = np.append(stops, len(buffer)), np.append(after, len(buffer))  # what begins and never ends
    starts = _begun(buffer, text, np.concatenate([[0], after[:-1]]).astype(np.int64)[: len(stops)], stops)
    consumed = int(after[-1]) if len(after) else len(buffer)
    breaks = np.flatnonzero(text[:consumed] == _LF)
    lines = np.searchsorted(breaks, starts)
    kinds = np.where(stops - starts > records.RECORD_BYTES_MAX, TOO_LONG, REGULAR).astype(np.uint8)
    # `[]`, or a comma behind the last element.
    count = len(stops) - 1 if ends.closed and starts[-1] == stops[-1] else len(stops)
    kept = slice(0, count)
    return Records(buffer, starts[kept], stops[kept], lines[kept], kinds[kept], consumed, len(breaks))


def _begun(buffer: bytes, text: npt.NDArray[np.uint8], starts: Positions, stops: Positions) -> Positions:
    """The first byte of each element that is not blank."""
    at = np.arange(len(starts))
    for _ in range(_BLANKS_STEPPED):
        at = at[starts[at] < stops[at]]
        at = at[_BLANK[text[starts[at]]]]
        if not len(at):
            return starts
        starts[at] += 1
    for index in map(int, at):
        element = buffer[starts[index] : stops[index]]
        starts[index] += len(element) - len(element.lstrip())
    return starts


def _giant(head: bytes, state: _State, source: Source, *, array: bool) -> tuple[Records, bytes, bool]:
    """An element longer than the window: one record that is too long. Skipped while reading, never held."""
    skipped, lines = len(head), head.count(b"\n")
    kept = head.lstrip()[: records.RAW_BYTES_KEPT]
    first = head.count(b"\n", 0, len(head) - len(head.lstrip()))
    while True:
        more = source.read(records.WINDOW_BYTES)
        ends = _ends(more, state, array=array)
        state = ends.state
        if len(ends) or not more:
            break
        skipped, lines = skipped + len(more), lines + more.count(b"\n")
    if not more and array:
        raise Unreadable("the JSON array breaks off in an element of more than 16 MiB")
    end = int(ends.places[0]) + 1 if more else 0
    one = np.zeros(1, np.int64)
    found = Records(
        kept,
        one,
        one + len(kept),
        one + first,
        np.full(1, TOO_LONG, np.uint8),
        skipped + end,
        lines + more.count(b"\n", 0, end),
    )
    return found, more[end:], bool(ends.closed and len(ends) == 1) or not more
