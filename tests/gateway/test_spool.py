import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from common.credit_operations import Receipt
from gateway.spool import Captured, Released, Spool
from gateway.spool_records import decode, encode
from gateway.spool_segments import Segment, Side
from support.audit_events import StoppedClock
from support.gateway_parts import gateway_settings

_ADA = UUID(int=7)


def _spool(folder: Path, **settings: int) -> Spool:
    return Spool(gateway_settings(folder, **settings), StoppedClock())


def _released(number: int) -> Released:
    return Released(UUID(int=number), _ADA, "test")


def _unsent_events(spool: Spool, side: Side) -> list[bytes]:
    """Everything a side still has to send, acknowledged as it goes."""
    events: list[bytes] = []
    while (segment := spool.unsent(side)) is not None:
        records = segment.read(side)
        if records:
            events += [record.event for record in records]
            segment.acknowledge(side, records[-1].end)
    return events


def _killed_process(folder: Path, records: int) -> None:
    """Another process appends records and dies by SIGKILL."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from uuid import UUID
from support.audit_events import StoppedClock
from support.gateway_parts import gateway_settings
from gateway.spool import Released, Spool
spool = Spool(gateway_settings(Path({str(folder)!r})), StoppedClock())
for n in range({records}):
    spool.append(b'{{"n":%d}}' % n, Released(UUID(int=n), UUID(int=7), "test"), UUID(int=7))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr.decode()


def test_a_record_comes_back_as_it_was_appended(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    receipt = Receipt(query_id=UUID(int=1), dataset="people", state="captured", price_version="v1")
    captured = Captured(UUID(int=1), _ADA, 1500, receipt)
    assert spool.append(b'{"status":200}', captured, _ADA)
    segment = spool.unsent("settled")
    assert segment is not None
    [record] = segment.read("settled")
    assert (record.event, record.user_id) == (b'{"status":200}', _ADA.bytes)
    assert record.settlement == captured.operation().model_dump_json().encode()
    spool.close()


def test_each_side_acknowledges_for_itself_and_only_both_together_trim(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append(b"{}", _released(1), _ADA)
    assert _unsent_events(spool, "settled") == [b"{}"]
    assert spool.pending_bytes > 0
    assert _unsent_events(spool, "audited") == [b"{}"]
    spool.trim()
    assert spool.pending_bytes == 0
    assert spool.sent.is_set()
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_killed_process_left_is_adopted_and_then_removed(tmp_path: Path) -> None:
    _killed_process(tmp_path, 100)
    spool = _spool(tmp_path)
    assert spool.adopt() == 1
    expected = [b'{"n":%d}' % n for n in range(100)]
    assert _unsent_events(spool, "settled") == expected
    assert _unsent_events(spool, "audited") == expected
    spool.trim()
    assert len(list((tmp_path / "spool").iterdir())) == 1  # its own
    spool.close()


def test_a_living_process_is_not_robbed(tmp_path: Path) -> None:
    first, second = _spool(tmp_path), _spool(tmp_path)
    first.append(b"{}", None, None)
    assert second.adopt() == 0
    first.close()
    assert second.adopt() == 1
    second.close()


def test_a_torn_last_record_is_dropped_and_the_others_are_kept(tmp_path: Path) -> None:
    _killed_process(tmp_path, 3)
    [file] = (tmp_path / "spool").glob("*/*.spool")
    file.write_bytes(file.read_bytes()[:-5])
    spool = _spool(tmp_path)
    spool.adopt()
    assert _unsent_events(spool, "settled") == [b'{"n":0}', b'{"n":1}']
    assert _unsent_events(spool, "audited") == [b'{"n":0}', b'{"n":1}']
    spool.trim()
    assert spool.pending_bytes == 0
    spool.close()


def test_a_flipped_bit_is_noticed() -> None:
    record = bytearray(encode(b'{"a":1}', b"", None, 1.0))
    record[-1] ^= 1
    assert list(decode(bytes(record), 0)) == []


def test_what_was_acknowledged_before_a_kill_is_not_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "000001.spool"
    segment = Segment(path)
    for n in range(10):
        segment.append(encode(b"%d" % n, b"", None, 1.0))
    fifth = segment.read("audited")[4]
    segment.acknowledge("audited", fifth.end)
    again = Segment(path)
    assert [record.event for record in again.read("audited")] == [b"5", b"6", b"7", b"8", b"9"]
    assert len(again.read("settled")) == 10
    segment.close(remove=False)
    again.close(remove=True)


def test_segments_rotate_by_size_and_disappear_when_sent(tmp_path: Path) -> None:
    spool = _spool(tmp_path, spool_segment_bytes_max=4096)
    for _ in range(100):
        spool.append(b'{"x":"%b"}' % (b"y" * 200), None, _ADA)
    assert len(list((tmp_path / "spool").glob("*/*.spool"))) > 3
    assert len(_unsent_events(spool, "settled")) == 100
    assert len(_unsent_events(spool, "audited")) == 100
    spool.trim()
    assert len(list((tmp_path / "spool").glob("*/*.spool"))) == 1
    spool.close()


def test_a_full_spool_drops_and_says_so_but_never_raises(tmp_path: Path) -> None:
    spool = _spool(tmp_path, spool_bytes_max=1 << 16, spool_segment_bytes_max=1 << 12)
    kept = sum(spool.append(b"x" * 1000, None, None) for _ in range(100))
    assert 50 < kept < 66
    assert spool.pending_bytes <= 1 << 16
    spool.close()


def test_a_spool_smaller_than_two_segments_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="SPOOL_BYTES_MAX"):
        gateway_settings(tmp_path, spool_bytes_max=1 << 16, spool_segment_bytes_max=1 << 16)


def test_a_disk_that_refuses_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = _spool(tmp_path)
    spool.append(b"{}", None, None)

    def full(_self: Segment, _record: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Segment, "append", full)
        assert not spool.append(b"{}", None, None)
    assert spool.append(b"{}", None, None)
    assert len(_unsent_events(spool, "audited")) == 2
    spool.close()


def test_a_record_larger_than_a_reading_block_is_read(tmp_path: Path) -> None:
    spool = _spool(tmp_path)
    spool.append(b"x" * 1_000_000, None, None)
    spool.append(b"y", None, None)
    assert [len(event) for event in _unsent_events(spool, "audited")] == [1_000_000, 1]
    spool.close()
