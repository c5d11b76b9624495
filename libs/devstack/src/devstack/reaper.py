"""Runs one part of the stack as the leader of its own session, waits, and writes down how it ended.

`bigdata up` exits while its children go on, so nobody would learn whether a part was killed or gave up: this stays
behind for each of them and does nothing else. Standard library only, and little of it, because it is in memory once
per part. Called as `python -I -S reaper.py EXIT_FILE UID:GID ARGV...` (`-` to keep the user); prints the part's pid.
"""

import os
import signal
import sys
import time
from typing import NoReturn

_NO_SUCH_PROGRAM = 127


def main(exit_file: str, owner: str, argv: list[str]) -> None:
    if os.fork():
        os._exit(0)  # the caller gets its answer at once and no zombie to care for
    os.setsid()
    pid = os.fork()
    if pid == 0:
        _become(owner, argv)
    os.write(1, str(pid).encode())
    os.close(1)
    os.chdir("/")
    _, status = os.waitpid(pid, 0)
    _write(exit_file, f"{pid} {os.waitstatus_to_exitcode(status)} {time.time():.3f}")


def _become(owner: str, argv: list[str]) -> NoReturn:
    try:
        os.setsid()
        os.dup2(2, 1)
        # Python ignores SIGPIPE, and what is ignored stays so across exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if owner != "-":
            uid, gid = (int(number) for number in owner.split(":"))
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.execv(argv[0], argv)  # noqa: S606 - no shell on purpose
    except OSError as exc:
        os.write(2, f"cannot start {argv[0]}: {exc}\n".encode())
    os._exit(_NO_SUCH_PROGRAM)


def _write(exit_file: str, line: str) -> None:
    try:
        with open(exit_file + ".new", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib would triple the start time
            file.write(line)
        os.replace(exit_file + ".new", exit_file)  # noqa: PTH105
    except OSError:
        pass  # the folder was purged meanwhile: nobody will ask


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
