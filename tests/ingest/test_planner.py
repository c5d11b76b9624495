import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.cutting import cuts
from ingest.formats.records import pieces
from ingest.source import Bytes
from support.ingest_parts import dataset, layout_of

THINGS = dataset()
lines = st.lists(
    st.sampled_from([b"a@x.org,1\n", b'"b@x.org","2\n"\n', b"\n", b'c@x.org,5" x\n', b"ragged\r\n", b'"open,1\n'])
)


@given(lines, st.integers(1, 60))
def test_chunks_are_the_file_and_every_record_is_whole(body: list[bytes], chunk_bytes: int) -> None:
    data = b"email,source\nz@x.org,0\n" + b"".join(body)
    layout = layout_of(data, THINGS)
    chunks = list(cuts(layout, Bytes(data), chunk_bytes))
    assert chunks[0].start == layout.offset
    assert all(one.end == other.start for one, other in pairwise(chunks))
    assert all(one.end - one.start < chunk_bytes + 30 for one in chunks)
    assert data[chunks[-1].end :].strip() == b""
    whole = list(pieces(io.BytesIO(data[layout.offset :]), layout.dialect, layout.place, at_most=10_000))
    expected = [piece.text(index) for piece in whole for index in range(len(piece))]
    found: list[bytes] = []
    for chunk in chunks:
        inside = list(pieces(io.BytesIO(data[chunk.start : chunk.end]), layout.dialect, chunk.place, at_most=10_000))
        texts = [piece.text(index) for piece in inside for index in range(len(piece))]
        assert chunk.rows == len(texts)
        assert chunk.place.row == len(found) + 1
        found += texts
    assert found == expected


@pytest.mark.parametrize("data", [b"email,age\n", b"email,age"])
def test_a_file_with_a_header_alone_has_no_chunks(data: bytes) -> None:
    layout = layout_of(data, THINGS)
    assert list(cuts(layout, Bytes(data), 100)) == []
