"""Rows of a Parquet file that has not come to its end: whoever leaves before the footer has pages that can be read.

A row group is its columns one after the other, each some pages; a page says in front how many values it has. With as
many values in each column as rows, all values by the number of columns are the rows that were sent, in whole columns or
not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_MAGIC_BYTES: Final = 4
_HEADER_BYTES_MAX: Final = 1 << 20
# Fields of PageHeader in parquet.thrift; by kind of page the one that has its counts, the first of which is of values.
_TYPE, _COMPRESSED_BYTES, _VALUES, _NONE = 1, 3, 1, -1
_DICTIONARY_PAGE: Final = 2
_COUNTS: Mapping[int, int] = {0: 5, _DICTIONARY_PAGE: 7, 3: 8}
_VARINT_BITS_MAX: Final = 70


class PageCount:
    """`values` of the data pages that began so far."""

    def __init__(self) -> None:
        self.values = 0
        self._waiting = bytearray()
        self._skip = _MAGIC_BYTES
        self._over = False

    def add(self, piece: bytes) -> None:
        if self._over:
            return
        if self._skip >= len(piece):
            self._skip -= len(piece)
            return
        self._waiting += memoryview(piece)[self._skip :]
        self._skip = 0
        while self._waiting and not self._over and self._page():
            pass

    def _page(self) -> bool:
        """Takes the next page off what is waiting; False while it is not all there, or when no page follows."""
        thrift = _Thrift(self._waiting)
        try:
            header = thrift.struct()
        except IndexError:
            self._over = len(self._waiting) > _HEADER_BYTES_MAX
            return False
        except (_NotThrift, RecursionError):
            header = {}
        counts, size = header.get(_COUNTS.get(_number(header, _TYPE), _NONE)), _number(header, _COMPRESSED_BYTES)
        if size < 0 or not isinstance(counts, dict):
            self._over = True  # indexes and the footer
            return False
        if _number(header, _TYPE) != _DICTIONARY_PAGE:
            self.values += max(0, _number(counts, _VALUES))
        whole = thrift.at + size
        self._skip = max(0, whole - len(self._waiting))
        del self._waiting[:whole]
        return not self._skip


def _number(fields: Mapping[int, Any], field: int) -> int:
    found = fields.get(field)
    return found if isinstance(found, int) else _NONE


class _NotThrift(Exception):
    """A type that the protocol does not have."""


class _Thrift:
    """As much of Thrift's compact protocol as headers need. Raises IndexError where the bytes end."""

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self.at = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            delta, kind = head >> 4, head & 15
            number = number + delta if delta else self.zigzag()
            fields[number] = self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _BOOLEANS:
            return kind == 1
        read = _READERS.get(kind)
        if read is None:
            raise _NotThrift
        return read(self)

    def elements(self) -> list[Any]:
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()  # noqa: PLR2004 - longer ones say so behind
        return [self.byte() if head & 15 in _BOOLEANS else self._value(head & 15) for _ in range(count)]

    def double(self) -> None:
        self._skipped(8)

    def binary(self) -> None:
        self._skipped(self._varint())

    def _skipped(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError

    def byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _varint(self) -> int:
        found = shift = 0
        while shift <= _VARINT_BITS_MAX:
            byte = self.byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:  # noqa: PLR2004 - the last one
                return found
        raise _NotThrift

    def zigzag(self) -> int:
        found = self._varint()
        return (found >> 1) ^ -(found & 1)


_BOOLEANS = frozenset({1, 2})
# By Thrift's number of the type.
_READERS: Mapping[int, Callable[[_Thrift], Any]] = {
    3: _Thrift.byte,
    **dict.fromkeys((4, 5, 6), _Thrift.zigzag),
    7: _Thrift.double,
    8: _Thrift.binary,
    **dict.fromkeys((9, 10), _Thrift.elements),
    12: _Thrift.struct,
}
