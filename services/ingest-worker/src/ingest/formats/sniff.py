"""What a file is: from its content first, its name second, the declared type third. A contradiction is an error."""

import codecs
import re
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import orjson

from common.datasets import Dataset
from ingest.formats.csv_dialect import csv_layout
from ingest.formats.json_array import first_value
from ingest.formats.layout import UTF8, Compression, Layout, Unreadable

SAMPLE_BYTES = 1 << 20

_LATIN1 = "iso-8859-1"
_CSV, _JSON, _XML, _PARQUET = "CSV", "JSON", "XML", "Parquet"
_PACKED: tuple[tuple[bytes, Compression, str], ...] = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"PK\x03\x04", "zip", ".zip"),
    (b"PK\x05\x06", "zip", ".zip"),
)
_PARQUET_MAGIC = b"PAR1"
_MAGIC = (
    (b"\x7fELF", "an executable (ELF)"),
    (b"\xca\xfe\xba\xbe", "an executable (Java or Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "an executable (Mach-O)"),
    (b"#!", "a script"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"7z\xbc\xaf", "7z"),
    (b"SQLite format 3\x00", "a SQLite database"),
)
_BY_NAME = {
    "csv": _CSV,
    "tsv": _CSV,
    "tab": _CSV,
    "text/csv": _CSV,
    "text/tab-separated-values": _CSV,
    "json": _JSON,
    "jsonl": _JSON,
    "ndjson": _JSON,
    "application/json": _JSON,
    "application/x-ndjson": _JSON,
    "application/jsonl": _JSON,
    "xml": _XML,
    "text/xml": _XML,
    "application/xml": _XML,
    "parquet": _PARQUET,
    "application/vnd.apache.parquet": _PARQUET,
}
_COMPRESSED = {suffix: name for _, name, suffix in _PACKED}
_BINARY_SHARE_MAX, _BINARY_BYTES_MIN = 0.05, 16  # of control characters; a few in a small file are mere dirt
_UTF16_SHARE_MIN = 0.3  # of NULs at one parity: text of Latin letters
_TEXT_CONTROLS = b"\t\n\v\f\r\x1b"
_DTD = re.compile(rb"<!(?:DOCTYPE|ENTITY)")
_PROLOG_BYTES = 64 << 10


@dataclass(frozen=True)
class Sample:
    """The first bytes of an object; `whole` when there are no others."""

    data: bytes
    whole: bool
    filename: str = ""
    declared: str | None = None
    record: str | None = None  # the XML element that is one, where the sender says so


def packing_of(sample: Sample) -> Compression:
    """What the file is packed with, if anything."""
    found: Compression = next((name for magic, name, _ in _PACKED if sample.data.startswith(magic)), "")
    said = _said_by_name(sample.filename)
    if said and found != said and (found or said in _COMPRESSED.values()):
        raise Unreadable(f"the content is {found or 'not compressed'}, but the file name says {said}")
    return found


def unpacked_name(filename: str) -> str:
    """The name of what is inside: `people.csv` of `people.csv.gz`."""
    return filename[: -len(suffix)] if (suffix := PurePath(filename).suffix).lower() in _COMPRESSED else filename


def sniff(sample: Sample, dataset: Dataset) -> Layout:
    """How to read the file, which is not packed, or Unreadable with one sentence for its sender.

    What stands inside of XML and Parquet is for others to find out.
    """
    if not sample.data:
        raise Unreadable("the file is empty")
    if sample.data.startswith(_PARQUET_MAGIC):
        _compare(_PARQUET, sample)
        return Layout(format="parquet")
    encoding, mark = _encoding(sample)
    text = sample.data if encoding == UTF8 else _transcoded(sample, encoding)
    text = text[mark:]
    if not text.strip():
        raise Unreadable("the file holds nothing but white space")
    found = _kind_of_text(text)
    _compare(found, sample)
    if found == _XML:
        if _DTD.search(text[:_PROLOG_BYTES]):
            raise Unreadable("the XML has a DTD (<!DOCTYPE), which is not read: leave it out")
        return Layout(format="xml")
    if found == _JSON:
        # JSON is UTF-8 by its standard: a byte that is not costs its line.
        encoding = UTF8 if encoding == _LATIN1 else encoding
        return _json_layout(text, encoding, mark)
    return csv_layout(text, dataset, encoding=encoding, mark=mark, whole=sample.whole)


def _encoding(sample: Sample) -> tuple[str, int]:
    """The encoding, and how many bytes its mark takes in UTF-8. Raises for what is no text at all."""
    data = sample.data
    for magic, what in _MAGIC:
        if data.startswith(magic):
            _compare(what, sample)
            raise Unreadable(f"unsupported format: the content is {what}")
    if data.startswith(b"MZ") and b"\x00" in data[:256]:
        raise Unreadable("unsupported format: the content is an executable (Windows)")
    for mark, encoding in (
        (codecs.BOM_UTF8, UTF8),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return encoding, 3
    nuls = np.frombuffer(data[: len(data) // 2 * 2], np.uint8).reshape(-1, 2) == 0
    even, odd = nuls.mean(axis=0) if len(nuls) else (0.0, 0.0)
    if max(even, odd) > _UTF16_SHARE_MIN and min(even, odd) < _UTF16_SHARE_MIN:
        return ("utf-16-be" if even > odd else "utf-16-le"), 0
    controls = len(data) - len(data.translate(None, bytes(b for b in range(32) if b not in _TEXT_CONTROLS)))
    if controls > max(_BINARY_BYTES_MIN, _BINARY_SHARE_MAX * len(data)):
        raise Unreadable("unsupported format: the content is binary, not text")
    return (UTF8 if _is_utf8(data) else _LATIN1), 0


def _is_utf8(data: bytes) -> bool:
    """Latin-1 text has hardly a byte beyond ASCII that UTF-8 would accept; UTF-8 with dirt in it has many."""
    text = codecs.getincrementaldecoder(UTF8)(errors="replace").decode(data)  # it may end inside a character
    wrong = text.count("\ufffd")
    return not wrong or wrong < sum(1 for character in text if character > "\x7f") - wrong


def _transcoded(sample: Sample, encoding: str) -> bytes:
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(sample.data, final=sample.whole)
    return text.encode(UTF8, "replace")


def _kind_of_text(text: bytes) -> str:
    begin = text.lstrip()[:1]
    if begin in {b"{", b"["}:
        return _JSON
    return _XML if begin == b"<" else _CSV


def _compare(found: str, sample: Sample) -> None:
    """Name and declaration may be silent, but not say something else."""
    said = _said_by_name(sample.filename)
    if said and said != found:
        raise Unreadable(f"the content is {found}, but the file name says {said}")
    declared = _BY_NAME.get((sample.declared or "").lower().split(";")[0].strip())
    if declared and declared != found:
        raise Unreadable(f"the content is {found}, but the declared format is {declared}")


def _said_by_name(filename: str) -> str | None:
    suffix = PurePath(filename.lower()).suffix
    return _COMPRESSED.get(suffix) or _BY_NAME.get(suffix.removeprefix("."))


def _json_layout(text: bytes, encoding: str, mark: int) -> Layout:
    """An array; or one object a line; or objects over several lines, of which a single one is the usual case."""
    if text.lstrip().startswith(b"["):
        return Layout(format="json_array", encoding=encoding, offset=mark)
    first, _, rest = text.lstrip().partition(b"\n")
    lines = _is_json(first) or not rest.strip()
    if not lines:
        whole = first_value(text)
        # A first line that is broken is no sign: the next ones tell, each an object by itself.
        lines = not _is_json(whole) and any(_is_object(line) for line in rest.splitlines()[:100])
    return Layout(format="json_lines" if lines else "json_objects", encoding=encoding, offset=mark)


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_object(line: bytes) -> bool:
    return line.lstrip().startswith(b"{") and _is_json(line)
