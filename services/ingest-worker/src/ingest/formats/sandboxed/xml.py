"""XML as JSON lines: one object per record element, with the line that it begins on.

A field is a child element (its name without the namespace) or an attribute; a name that repeats becomes a list, an
element with elements inside an object. An empty element has no value, as data frames write it and as XML Schema's `nil`
asks for; other attributes of a text say how it is meant, not what it is, and are passed over. DTDs are refused, so
there are no entities but the five of XML; the parser's own bounds hold: 256 levels, 10 MB a text.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson
from lxml import etree

from ingest.formats.sandboxed.pipes import Given, Output, Refusal

# Asked for at once, since each question may wait for the worker, and fed to the parser in smaller pieces.
_ASKED_BYTES, _PIECE_BYTES = 4 << 20, 256 << 10
# The prolog in small steps: a DTD is refused before anything that it defines is used.
_FIRST_PIECE_BYTES, _PROLOG_BYTES_MAX = 1 << 10, 1 << 20
_BLOCK_BYTES, _BLOCK_RECORDS = 16 << 20, 50_000
_PATHS_MAX, _FIELDS_MAX = 1000, 1000

Fields = dict[str, Any]
Path = tuple[str, ...]


def run(given: Given, output: Output, values: Mapping[str, Any]) -> None:
    """`path`: the names from the root to the record element."""
    lines: list[int] = []
    # One buffer: orjson's own results hold a kilobyte each until they are let go.
    texts = bytearray()
    for line, fields in _records(given, values["path"]):
        texts += orjson.dumps(fields)
        texts += b"\n"
        lines.append(line)
        if len(texts) >= _BLOCK_BYTES or len(lines) >= _BLOCK_RECORDS:
            _send(output, lines, texts)
            lines, texts = [], bytearray()
    if lines:
        _send(output, lines, texts)


def _send(output: Output, lines: list[int], texts: bytearray) -> None:
    output.data(struct.pack(f"<Q{len(lines)}q", len(lines), *lines), texts)


def _records(given: Given, path: list[str]) -> Iterator[tuple[int, Fields]]:
    names: dict[str, str] = {}
    # Of the record before: most have the same, and need not be looked at again.
    around: Any = None
    parser = _parser("end", tag=f"{{*}}{path[-1]}")
    for _ in _fed(parser, given):
        for _, element in parser.read_events():
            parent = element.getparent()
            if parent is None or parent is not around:
                if not _is_at(element, path):
                    continue
                around = parent
            yield element.sourceline, _fields(element, names)
            element.clear()
            # What came before is done with: the tree never holds more than what is being read.
            while element.getprevious() is not None:
                del parent[0]


def _parser(*events: Literal["start", "end"], tag: str | None = None) -> Any:
    return etree.XMLPullParser(
        events=events,
        tag=tag,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_pis=True,
        remove_comments=True,
    )


def _is_at(element: Any, path: list[str]) -> bool:
    """Whether as many elements are around this one as the path has."""
    for _ in path[:-1]:
        element = element.getparent()
        if element is None:
            return False
    return element.getparent() is None


def _fed(parser: Any, given: Given) -> Iterator[None]:
    """After each piece. A document that breaks off, or breaks a rule, is refused where it does."""
    try:
        for piece in _after_prolog(given):
            parser.feed(piece)
            yield
        parser.close()
        yield
    except etree.XMLSyntaxError as exc:
        raise _refusal(exc, parser) from exc


def _refusal(exc: Any, parser: Any) -> Exception:
    """The first fault in the parser's own log; the exception may speak of a later one."""
    if exc.code == etree.ErrorTypes.ERR_NO_MEMORY:
        return MemoryError()
    first = next(iter(parser.feed_error_log), None)
    if first is not None:
        return Refusal(f"line {first.line}: {first.message}")
    return Refusal(f"line {exc.lineno}: {(exc.msg or '').partition(', line ')[0]}")


def _after_prolog(given: Given) -> Iterator[bytes]:
    """The whole document, once its root has begun without a DTD before it."""
    prolog = _parser("start")
    head = b""
    root = None
    while root is None:
        piece = given.read(_FIRST_PIECE_BYTES) or b""
        if not piece or len(head) > _PROLOG_BYTES_MAX:
            raise Refusal("no element begins in its first MiB" if piece else "it has no element")
        head += piece
        prolog.feed(piece)
        for _, element in prolog.read_events():
            root = element
            break
    document = root.getroottree().docinfo
    if document.doctype or document.internalDTD is not None:
        raise Refusal("it has a DTD (<!DOCTYPE), which is not read: leave it out")
    yield head
    while more := given.read(_ASKED_BYTES):
        for start in range(0, len(more), _PIECE_BYTES):
            yield more[start : start + _PIECE_BYTES]


def _fields(element: Any, names: dict[str, str]) -> Fields:
    fields: Fields = {}
    for name, value in element.items():
        fields[_local(name, names)] = value
    for child in element:
        tag = child.tag
        name = names.get(tag) or _local(tag, names)
        value = _fields(child, names) if len(child) else child.text
        if name in fields:
            fields[name] = [*_listed(fields[name]), value]
        else:
            fields[name] = value
    if not fields and element.text and element.text.strip():
        fields[_local(element.tag, names)] = element.text
    return fields


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _local(tag: Any, names: dict[str, str]) -> str:
    local = names[tag] = str(tag).rpartition("}")[2]
    return local


def look(given: Given, output: Output, values: Mapping[str, Any]) -> None:
    """Of the first bytes: how often each path of elements is there, and the names of the fields directly in it."""
    fields: dict[Path, set[str]] = {}
    counts: Counter[Path] = Counter()
    try:
        for path, own in _started(given):
            counts[path] += 1
            if path in fields or len(fields) < _PATHS_MAX:
                fields.setdefault(path, set()).update(own)
                if path[:-1] in fields and len(fields[path[:-1]]) < _FIELDS_MAX:
                    fields[path[:-1]].add(path[-1])
    except Refusal:
        # The first bytes end somewhere; in a whole document that is a fault.
        if values["whole"] or not fields:
            raise
    output.meta([{"path": path, "count": counts[path], "fields": sorted(fields[path])} for path in fields])


def _started(given: Given) -> Iterator[tuple[Path, list[str]]]:
    """The path of each element as it begins, and the names of its attributes."""
    above: list[str] = []
    parser = _parser("start", "end")
    for _ in _fed(parser, given):
        for event, element in parser.read_events():
            if event == "end":
                above.pop()
                element.clear()
            else:
                above.append(_local(element.tag, {}))
                yield tuple(above), [_local(name, {}) for name in element.attrib]
