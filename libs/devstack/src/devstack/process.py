"""One child process: started detached, found again by pid and start time, stopped with everything it started."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

from devstack import reaper

_POLL_S = 0.03
_KILL_S = 5.0
_FAREWELL_S = 5.0
_LAST_WORDS_S = 0.2
# psutil derives the start time from the wall clock, which a time server may move a little.
_CLOCK_SLACK_S = 2.0
_LOG_BYTES_MAX = 64 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
_TAIL_LINES = 8


class StackError(Exception):
    """What is wrong with which part, and what to do: made to be printed as it is."""


@dataclass(frozen=True)
class Command:
    """How to start one part. `env` is added to the caller's environment; `user` matters for root only. `farewell` runs
    before the signal that stops it.
    """

    name: str
    argv: tuple[str, ...]
    folder: Path
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    stop_signal: int = signal.SIGTERM
    stop_s: float = 20.0
    farewell: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Changes whenever a running part would have to be restarted to have these settings."""
        parts = [*self.argv, *(f"{name}={value}" for name, value in sorted(self.env.items()))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass
class Record:
    """What stack.json keeps of one started part. `prepared`: what follows its start (roles, topics) was done too."""

    pid: int
    created: float
    port: int
    log: str
    log_start: int
    exit_file: str
    fingerprint: str
    stop_signal: int
    stop_s: float
    prepared: bool = False
    stopped: bool = False
    farewell: list[str] = field(default_factory=list)


def start(command: Command, log: Path, exit_file: Path) -> Record:
    """Start it in a session of its own; it survives the caller. Output is appended to the log."""
    exit_file.unlink(missing_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))
    owner = "-" if command.user is None else f"{command.user[0]}:{command.user[1]}"
    with log.open("ab") as output:
        log_start = output.tell()
        launched = subprocess.run(  # noqa: S603 - our own argument list
            [sys.executable, "-I", "-S", reaper.__file__, str(exit_file), owner, *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            cwd=command.folder,
            env={**os.environ, **command.env},
            start_new_session=True,
            check=True,
        )
    pid = int(launched.stdout)
    return Record(
        pid=pid,
        created=_created(pid),
        port=command.port,
        log=str(log),
        log_start=log_start,
        exit_file=str(exit_file),
        fingerprint=command.fingerprint(),
        stop_signal=command.stop_signal,
        stop_s=command.stop_s,
        farewell=list(command.farewell),
    )


def is_alive(record: Record) -> bool:
    """True for this very process only, never for another that was given its pid later."""
    return _leader(record) is not None


def is_paused(record: Record) -> bool:
    with suppress(psutil.NoSuchProcess):
        leader = _leader(record)
        return leader is not None and leader.status() == psutil.STATUS_STOPPED
    return False


def how_it_ended(record: Record) -> str:
    """Half a sentence: 'was killed by SIGKILL at 12:03:44', 'exited with code 1 at …'."""
    words = _last_words(record)
    if words is None:
        return "is gone without a trace (was the machine restarted?)"
    code, at = words
    when = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
    return f"was killed by {signal.Signals(-code).name} at {when}" if code < 0 else f"exited with code {code} at {when}"


def _last_words(record: Record) -> tuple[int, float] | None:
    """Exit code and time from the reaper, which writes a moment after the death."""
    give_up = time.monotonic() + _LAST_WORDS_S
    while True:
        with suppress(OSError, ValueError):
            pid, code, at = Path(record.exit_file).read_text(encoding="ascii").split()
            if int(pid) == record.pid:
                return int(code), float(at)
        if time.monotonic() > give_up:
            return None
        time.sleep(_POLL_S / 3)


def send(record: Record, number: int) -> None:
    """The signal goes to the part and everything it started; PostgreSQL's backends have sessions of their own."""
    for process in _family(record):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


async def stop(record: Record) -> bool:
    """Ask the part to end, then kill what is left of it after its deadline. True when it ended by itself."""
    family = _family(record)
    leader = _leader(record)
    if leader is not None:
        if record.farewell:
            _quietly(leader.send_signal, signal.SIGCONT)
            await _said(record.farewell)
        _quietly(leader.send_signal, record.stop_signal)
        _quietly(leader.send_signal, signal.SIGCONT)  # a paused process would sit on the request
    clean = await _gone(family, record.stop_s)
    for process in {*family, *_family(record)}:
        _quietly(process.kill)
    if not await _gone(family, _KILL_S):
        raise StackError(f"process {record.pid} cannot be killed; its log: {record.log}")
    return clean


async def _said(farewell: Sequence[str]) -> None:
    """Whatever comes of it: the signal follows."""
    null = asyncio.subprocess.DEVNULL
    saying = await asyncio.create_subprocess_exec(*farewell, stdin=null, stdout=null, stderr=null)
    try:
        await asyncio.wait_for(saying.wait(), _FAREWELL_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            saying.kill()
        await saying.wait()


async def wait_gone(record: Record, deadline_s: float = _KILL_S) -> bool:
    return await _gone(_family(record), deadline_s)


async def wait_ready(name: str, record: Record, ready: Callable[[], Awaitable[bool]], deadline_s: float) -> None:
    """Poll until it answers. Raises StackError with the end of its log when it dies or takes too long."""
    give_up = time.monotonic() + deadline_s
    while True:
        if not is_alive(record):
            raise StackError(f"{name} {how_it_ended(record)} while starting; {log_tail(record)}")
        if await ready():
            return
        if time.monotonic() > give_up:
            raise StackError(f"{name} did not become ready within {deadline_s:.0f} s; {log_tail(record)}")
        await asyncio.sleep(_POLL_S)


def log_tail(record: Record) -> str:
    """Where the log is and its last lines since this start, for error messages."""
    return log_tail_of(Path(record.log), record.log_start)


def log_tail_of(path: Path, start: int = 0) -> str:
    if not path.exists():
        return f"it has no log yet, it would be {path}"
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        log.seek(max(start, end - _TAIL_BYTES))
        lines = log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"its log is {path}", *(f"  {line}" for line in lines)])


def _created(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0  # died at once: the reaper knows how


def _leader(record: Record) -> psutil.Process | None:
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.created) < _CLOCK_SLACK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _family(record: Record) -> list[psutil.Process]:
    """The part, its descendants, and what is left of its process group when the part itself is gone."""
    leader = _leader(record)
    if leader is None and psutil.pid_exists(record.pid):
        return []  # the number belongs to somebody else now, so the group must have been empty
    family = [] if leader is None else [leader]
    with suppress(psutil.NoSuchProcess):  # it may die at any moment, also now
        family += leader.children(recursive=True) if leader is not None else []
    known = {process.pid for process in family}
    return family + [
        process for process in psutil.process_iter() if process.pid not in known and _in_group(process, record)
    ]


def _in_group(process: psutil.Process, record: Record) -> bool:
    try:
        return os.getpgid(process.pid) == record.pid
    except (ProcessLookupError, PermissionError):
        return False


async def _gone(processes: list[psutil.Process], deadline_s: float) -> bool:
    give_up = time.monotonic() + deadline_s
    while any(_running(process) for process in processes):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _quietly(act: Callable[..., None], *args: object) -> None:
    with suppress(psutil.NoSuchProcess):
        act(*args)
