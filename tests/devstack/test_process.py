import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from devstack import process
from devstack.process import Command, Record, StackError
from support.polling import until

_SLEEP = "import time; print('started', flush=True); time.sleep(60)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('started', flush=True); time.sleep(60)"
)
_WITH_CHILD = (
    "import subprocess, sys, time;"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
)


class Starter:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.records: list[Record] = []

    async def __call__(self, code: str, *, stop_s: float = 5.0) -> Record:
        command = Command("part", (sys.executable, "-c", code), self._folder, port=0, stop_s=stop_s)
        record = process.start(command, self._folder / "part.log", self._folder / "part.exit")
        self.records.append(record)
        return record

    async def printing(self, code: str, *, stop_s: float = 5.0) -> Record:
        """Returns when the process wrote its first line, so that it is past its own preparations."""
        record = await self(code, stop_s=stop_s)
        await process.wait_ready("part", record, lambda: _has_logged(record), 5)
        return record


async def _has_logged(record: Record) -> bool:
    return _logged(record).endswith("\n")


def _logged(record: Record) -> str:
    return Path(record.log).read_text()[record.log_start :]


@pytest_asyncio.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for record in starter.records:
        await process.stop(replace(record, stop_s=0))


async def test_a_part_leads_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(start: Starter) -> None:
    record = await start(_SLEEP)
    assert os.getsid(record.pid) == os.getpgid(record.pid) == record.pid
    assert os.getsid(0) != record.pid


async def test_a_part_that_ends_by_itself_is_stopped_cleanly(start: Starter) -> None:
    record = await start.printing(_SLEEP)
    assert await process.stop(record)
    assert not process.is_alive(record)
    assert process.how_it_ended(record).startswith("was killed by SIGTERM")


async def test_a_part_that_ignores_the_request_is_killed_after_its_deadline(start: Starter) -> None:
    record = await start.printing(_STUBBORN, stop_s=0.2)
    assert not await process.stop(record)
    assert process.how_it_ended(record).startswith("was killed by SIGKILL")


async def test_a_paused_part_can_be_stopped(start: Starter) -> None:
    record = await start.printing(_SLEEP)
    process.send(record, signal.SIGSTOP)
    await until("the pause", lambda: _is_paused(record))
    assert await process.stop(record)


async def test_what_a_part_started_is_stopped_with_it(start: Starter) -> None:
    record = await start.printing(_WITH_CHILD, stop_s=0.2)
    child = psutil.Process(int(_logged(record)))
    await process.stop(record)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_what_a_killed_part_left_behind_is_stopped_too(start: Starter) -> None:
    record = await start.printing(_WITH_CHILD, stop_s=0.2)
    child = psutil.Process(int(_logged(record)))
    os.kill(record.pid, signal.SIGKILL)
    await until("the part to die", lambda: _is_dead(record))
    assert child.is_running()
    await process.stop(record)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_another_process_with_a_recycled_pid_is_not_mistaken_for_the_part(start: Starter) -> None:
    record = await start.printing(_SLEEP)
    earlier = replace(record, created=record.created - 60)
    assert not process.is_alive(earlier)
    await process.stop(replace(earlier, stop_s=0))
    assert process.is_alive(record)


async def test_an_exit_code_is_remembered(start: Starter) -> None:
    record = await start("raise SystemExit(7)")
    assert await process.wait_gone(record)
    assert process.how_it_ended(record).startswith("exited with code 7 at ")


async def test_dying_while_starting_is_one_clear_message_with_the_end_of_the_log(start: Starter) -> None:
    record = await start("raise SystemExit('the disk is full')")
    with pytest.raises(StackError) as raised:
        await process.wait_ready("part", record, _never, 5)
    message = str(raised.value)
    assert message.startswith("part exited with code 1 at ")
    assert f"its log is {record.log}" in message
    assert "the disk is full" in message


async def test_never_becoming_ready_is_told_after_the_deadline(start: Starter) -> None:
    record = await start.printing(_SLEEP)
    with pytest.raises(StackError, match="did not become ready within 0 s"):
        await process.wait_ready("part", record, _never, 0.1)


async def test_only_this_starts_lines_of_the_log_are_shown(start: Starter) -> None:
    await start.printing(_SLEEP.replace("started", "from the first run"))
    record = await start.printing(_SLEEP)
    assert "started" in process.log_tail(record)
    assert "first run" not in process.log_tail(record)


async def test_a_program_that_does_not_exist_is_told_in_the_log(tmp_path: Path) -> None:
    command = Command("part", ("/does/not/exist",), tmp_path, port=0)
    record = process.start(command, tmp_path / "part.log", tmp_path / "part.exit")
    assert await process.wait_gone(record)
    assert process.how_it_ended(record).startswith("exited with code 127")
    assert "cannot start /does/not/exist" in process.log_tail(record)


async def _is_dead(record: Record) -> bool:
    return not process.is_alive(record)


async def _is_paused(record: Record) -> bool:
    return process.is_paused(record)


async def _never() -> bool:
    return False
