"""The same rows as files of every format."""

import csv
import gzip
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson
import pyarrow as pa
from backports import zstd
from pyarrow import parquet

Row = Mapping[str, Any]
Rows = Sequence[Row]


def as_csv(rows: Rows) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NOTNULL if hasattr(csv, "QUOTE_NOTNULL") else 0)
    writer.writerow(names)
    for row in rows:
        writer.writerow([row.get(name) for name in names])
    return out.getvalue().encode()


def as_lines(rows: Rows) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def as_array(rows: Rows) -> bytes:
    return orjson.dumps(list(rows), option=orjson.OPT_INDENT_2)


def as_objects(rows: Rows) -> bytes:
    return b"\n".join(orjson.dumps(row, option=orjson.OPT_INDENT_2) for row in rows)


def as_xml(rows: Rows, encoding: str = "utf-8") -> bytes:
    """Every other field as an attribute; what has no value is left out."""
    lines = [f'<?xml version="1.0" encoding="{encoding}"?>', '<x:file xmlns:x="urn:x">']
    for row in rows:
        given = {name: str(value) for name, value in row.items() if value is not None}
        attributes = "".join(f" {name}={quoteattr(text)}" for name, text in list(given.items())[::2])
        children = "".join(f"<x:{name}>{escape(text)}</x:{name}>" for name, text in list(given.items())[1::2])
        lines.append(f"<x:row{attributes}>{children}</x:row>")
    return "\n".join([*lines, "</x:file>"]).encode(encoding)


def as_parquet(rows: Rows, row_group_size: int = 1000) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    sink = io.BytesIO()
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    parquet.write_table(table, sink, row_group_size=row_group_size)
    return sink.getvalue()


def as_gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def as_zstd(data: bytes) -> bytes:
    return zstd.compress(data, 1)


def as_zip(**members: bytes) -> bytes:
    """`people_csv=…` becomes the member people.csv."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(".".join(name.rsplit("_", 1)), data)
    return sink.getvalue()


# By file name.
FORMATS: Mapping[str, Callable[[Rows], bytes]] = {
    "rows.csv": as_csv,
    "rows.jsonl": as_lines,
    "rows.json": as_array,
    "objects.json": as_objects,
    "rows.xml": as_xml,
    "rows.parquet": as_parquet,
    "rows.csv.gz": lambda rows: as_gzip(as_csv(rows)),
    "rows.json.zst": lambda rows: as_zstd(as_array(rows)),
    "rows.xml.gz": lambda rows: as_gzip(as_xml(rows)),
    "rows.zip": lambda rows: as_zip(a_csv=as_csv(rows[::2]), b_json=as_array(rows[1::2])),
}
