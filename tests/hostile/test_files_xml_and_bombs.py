"""XML that explodes or fetches, and small files that unpack to large ones: refused, in little memory, in a sentence."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.alone import alone
from support.hostile_files import PEOPLE_XML, external, gzip_bomb, laughs, overlapping_zip, parquet_bomb
from support.ingest_parts import batches, dataset
from support.written import as_csv, as_gzip, as_zip

THINGS = dataset()
XML_MIB_MAX, WORKER_MIB_MAX = 256, 512
DTD = "has a DTD"


def read(folder: Path, data: bytes, name: str = "") -> dict[str, Any]:
    """What came of a file, read in a process of its own."""
    path = folder / "hostile"
    path.write_bytes(data)
    done = alone("read_alone", path, name, timeout_s=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address that remembers who connected."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, address = server.accept()
                except OSError:
                    return
                seen.append(str(address))
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", seen
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("before", ["", f"<!--{'x' * 70_000}-->"], ids=["at once", "after a long comment"])
def test_a_billion_laughs_are_refused(tmp_path: Path, encoding: str, before: str) -> None:
    found = read(tmp_path, (before + laughs()).encode(encoding))
    assert found["accepted"] == 0
    assert DTD in found["error"] or "amplification" in found["error"]
    assert found["child_mib"] < XML_MIB_MAX


@pytest.mark.parametrize("before", [b"", b"<!--" + b"x" * 70_000 + b"-->"], ids=["at once", "after a long comment"])
@pytest.mark.parametrize("kind", ["dtd", "entity", "parameter"])
def test_nothing_is_fetched(kind: str, before: bytes) -> None:
    with listener() as (address, seen), pytest.raises(Exception, match=DTD):
        batches(before + external(address, kind), THINGS)
    assert seen == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<r><p><email>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</email></p></r>", "Excessive depth"),
        (b"<r>" + PEOPLE_XML[3:-4] * 9000 + b"<p>" + b"<a>" * 200_000 + b"</a>" * 200_000 + b"</p></r>", "depth"),
        (b"<r><p><email>" + b"a" * (12 << 20) + b"</email></p></r>", "too long"),
        (b"<r><p><email>a@example.org</email>" + b"<b>1</b>" * 2_000_000 + b"</p></r>", "MiB of memory"),
        (PEOPLE_XML[:-4] + b"<b>1</b>" * 2_500_000 + b"</r>", "MiB of memory"),
        (b"<r><p " + b" ".join(b'a%d="1"' % number for number in range(300_000)) + b"/></r>", "no element of the XML"),
        (b"<r><p><email>&undeclared;</email></p></r>", "undeclared"),
    ],
    ids=["depth", "depth later", "text", "one record", "no records", "attributes", "entity"],
)
def test_xml_is_bounded_in_depth_size_and_memory(tmp_path: Path, data: bytes, says: str) -> None:
    found = read(tmp_path, data)
    assert says in found["error"]
    assert max(found["own_mib"], found["child_mib"]) < XML_MIB_MAX + 64  # of a process that ran pytest's imports too


def test_a_gzip_bomb_is_stopped_at_the_cap(tmp_path: Path) -> None:
    found = read(tmp_path, gzip_bomb(300 << 20))
    assert "it unpacks to more than 200 times its size" in found["error"]
    assert found["own_mib"] + found["child_mib"] < WORKER_MIB_MAX


def test_a_zip_whose_files_are_all_the_same_bytes_is_stopped_at_the_cap(tmp_path: Path) -> None:
    found = read(tmp_path, overlapping_zip(900, 1 << 20))
    assert "cannot be read" in found["error"]
    assert found["own_mib"] + found["child_mib"] < WORKER_MIB_MAX


def test_a_parquet_bomb_is_stopped_at_the_cap(tmp_path: Path) -> None:
    bomb = parquet_bomb(20 << 30)
    assert len(bomb) < 2 << 20
    found = read(tmp_path, bomb)
    assert "more bytes than are allowed" in found["error"]
    assert found["own_mib"] + found["child_mib"] < WORKER_MIB_MAX * 2


def test_names_in_an_archive_are_nothing_but_names() -> None:
    rows = as_csv([{"email": "a@example.org"}])
    packed = as_zip(**{"../../../tmp/escaped_csv": rows, "/etc/passwd_csv": rows, "C:\\x\x1b[31m_csv": rows})
    assert sum(len(batch.records) for batch in batches(packed, THINGS)) == 3
    assert not Path("/tmp/escaped.csv").exists()  # noqa: S108 - where it must not be


def test_an_archive_in_an_archive_is_not_followed() -> None:
    inner = as_zip(a_csv=as_csv([{"email": "a@example.org"}]))
    for packed in (as_zip(b_zip=inner), as_gzip(inner)):
        with pytest.raises(Exception, match="pack once, not twice"):
            batches(packed, THINGS)


def test_an_archive_of_too_many_files_is_refused() -> None:
    with pytest.raises(Exception, match="1001 files, more than 1000"):
        batches(as_zip(**{f"a{number}_csv": b"" for number in range(1001)}), THINGS)
