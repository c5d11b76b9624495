"""Files that are made to hurt whoever reads them."""

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import parquet

PEOPLE_XML = b"<r><p><email>a@example.org</email></p></r>"


def laughs(levels: int = 9) -> str:
    """A billion laughs: 755 bytes that stand for gigabytes."""
    entities = '<!ENTITY l0 "lol">' + "".join(
        f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, levels + 1)
    )
    return f"<!DOCTYPE r [{entities}]><r><p><email>&l{levels};</email></p></r>"


def external(address: str, kind: str) -> bytes:
    """XML that asks its reader to fetch something."""
    declared = {
        "dtd": f'<!DOCTYPE r SYSTEM "{address}/x.dtd">',
        "entity": f'<!DOCTYPE r [<!ENTITY e SYSTEM "{address}/x">]>',
        "parameter": f'<!DOCTYPE r [<!ENTITY % e SYSTEM "{address}/x"> %e;]>',
    }[kind]
    return f"{declared}<r><p><email>{'&e;' if kind == 'entity' else 'a@example.org'}</email></p></r>".encode()


def gzip_bomb(size: int) -> bytes:
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=9) as packed:
        packed.write(b"email\n")
        for _ in range(size >> 20):
            packed.write(b"a" * (1 << 20))
    return sink.getvalue()


def overlapping_zip(files: int, size: int) -> bytes:
    """One compressed member that every entry of the directory points to."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"email\n" + b"a" * size)
        (first,) = archive.filelist
        archive.filelist += [first] * (files - 1)
    return sink.getvalue()


def parquet_bomb(decoded: int) -> bytes:
    """A small row group, and a footer that names it again and again: every row group is the same bytes."""
    rows, text = 10_000, "x" * 8000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))
    sink = io.BytesIO()
    parquet.write_table(pa.table({"source": column}), sink, row_group_size=rows)
    data = sink.getvalue()
    (footer_size,) = struct.unpack("<I", data[-8:-4])
    footer = parquet.read_metadata(io.BytesIO(data))
    whole = parquet.read_metadata(io.BytesIO(data))
    for _ in range(decoded // (rows * len(text))):
        whole.append_row_groups(footer)
    metadata = pa.BufferOutputStream()
    whole.write_metadata_file(metadata)
    footers: bytes = metadata.getvalue().to_pybytes()
    return data[: -8 - footer_size] + footers[4:]


def parquet_files() -> list[bytes]:
    """Small ones that use much of what the format has."""
    rows = 300
    table = pa.table(
        {
            "email": [f"a{number}@example.org" if number % 7 else None for number in range(rows)],
            "age": pa.array(range(rows), pa.int32()),
            "source": pa.array([f"s{number % 3}" for number in range(rows)]).dictionary_encode(),
            "note": [{"a": [number], "b": None} for number in range(rows)],
            "record_ts": pa.array(range(rows), pa.timestamp("ms", "UTC")),
            "price": pa.array([number / 7 for number in range(rows)], pa.float64()),
        }
    )
    ways: list[dict[str, Any]] = [
        {},
        {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 100},
        {"compression": "none", "use_dictionary": False, "write_statistics": False},
        {"compression": "gzip", "write_page_index": True, "write_page_checksum": True},
    ]
    files = []
    for way in ways:
        sink = io.BytesIO()
        parquet.write_table(table, sink, **way)
        files.append(sink.getvalue())
    return files


def mutants(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Some bytes changed, cut out or put in; half of the time in the footer, which says where everything is."""
    draw = random.Random(seed)  # noqa: S311 - it repeats on purpose
    for number in range(count):
        data = bytearray(files[number % len(files)])
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            (footer_size,) = struct.unpack("<I", files[number % len(files)][-8:-4])
            begin = max(0, len(data) - footer_size - 8) if draw.random() < 0.5 else 0
            at = draw.randrange(begin, len(data))
            way = draw.random()
            if way < 0.7:
                data[at] = draw.choice((0, 0x7F, 0x80, 0xFF, data[at] ^ 1 << draw.randrange(8)))
            elif way < 0.8:
                data[at:at] = draw.randbytes(draw.randrange(1, 9))
            elif way < 0.9:
                del data[at : at + draw.randrange(1, 9)]
            else:
                data[at : at + 8] = (2 ** draw.randrange(64)).to_bytes(8, "little")
        yield bytes(data)
