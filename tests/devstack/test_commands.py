"""`bigdata` as a user types it: exit codes, what goes to stdout, what to stderr."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import psutil
import pytest

from bigdata_client.cli import build
from devstack import ports, state
from support.polling import until

Result = subprocess.CompletedProcess[str]


class Terminal:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *arguments: str) -> Result:
        running = self.begin(*arguments)
        stdout, stderr = running.communicate(timeout=60)
        return Result(running.args, running.returncode, stdout, stderr)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from bigdata_client.cli import main; main()", *arguments]
        env = {**os.environ, "BIGDATA_HOME": str(self.folder), "COLUMNS": "200"}
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            preexec_fn=_can_be_interrupted,  # noqa: PLW1509 - it makes one system call
        )


def _can_be_interrupted() -> None:
    """Also where the tests run in the background of a shell, which has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def bigdata() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="bigdata-cli-") as folder:
        terminal = Terminal(Path(folder) / "stack")
        yield terminal
        terminal("down", "--purge")


def test_the_help_lists_the_commands(bigdata: Terminal) -> None:
    shown = bigdata("--help")
    assert shown.returncode == 0
    for command in ("up", "down", "status", "demo", "logs", "reconcile", "dead-letters", "--install-completion"):
        assert f" {command} " in shown.stdout


def test_without_a_stack_status_says_how_to_get_one(bigdata: Terminal) -> None:
    shown = bigdata("status")
    assert shown.returncode == 3
    assert shown.stderr == f"no stack in {bigdata.folder}: run `bigdata up`\n"
    assert bigdata("down").returncode == 0
    assert not bigdata.folder.exists()


def test_a_stack_from_up_to_purge(bigdata: Terminal) -> None:
    port = str(ports.choose())
    up = bigdata("up", "--servers-only", "--json", "--port", f"redis={port}")
    assert up.returncode == 0, up.stderr
    document = json.loads(up.stdout)
    assert document["processes"]["redis"]["port"] == int(port)
    assert document["admin_key"].startswith("bd_")
    assert document == json.loads(bigdata("status", "--json").stdout)

    shown = bigdata("status")
    assert shown.returncode == 0
    assert "running" in shown.stdout
    assert "ready to accept connections" in bigdata("logs", "postgres", "--lines", "50").stdout.lower()
    assert "kafka          | " in bigdata("logs").stdout

    os.kill(document["processes"]["kafka"]["pid"], signal.SIGKILL)
    shown = bigdata("status")
    assert shown.returncode == 1
    assert "kafka was killed by SIGKILL at " in shown.stderr
    assert "run `bigdata up` to bring it back" in shown.stderr

    assert bigdata("down").returncode == 0
    shown = bigdata("status")
    assert shown.returncode == 3
    assert "the stack is stopped" in shown.stderr
    assert bigdata("down", "--purge").returncode == 0
    assert not bigdata.folder.exists()


async def test_an_interrupted_up_leaves_nothing_that_down_cannot_find(bigdata: Terminal) -> None:
    up = bigdata.begin("up")  # the services as well: the servers alone are sometimes up before they can be interrupted
    await until("the first started part", lambda: _parts_started(bigdata))
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130
    assert told == "interrupted; `bigdata down` stops what was started\n"

    started = [one["pid"] for one in json.loads(bigdata("status", "--json").stdout)["processes"].values()]
    assert bigdata("down").returncode == 0
    assert not [pid for pid in started if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


async def _parts_started(bigdata: Terminal) -> bool:
    found = state.load(bigdata.folder)
    return found is not None and bool(found.processes)


def test_a_broken_package_does_not_take_the_other_commands_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = list(entry_points(group="bigdata.commands"))
    broken = EntryPoint("broken", "not_installed.cli:register", "bigdata.commands")
    monkeypatch.setattr("bigdata_client.cli.entry_points", lambda **_: [*installed, broken])
    app = build()
    assert "up" in [command.callback.__name__ for command in app.registered_commands if command.callback]
    assert "the commands of broken are missing: No module named 'not_installed'" in capsys.readouterr().err


def test_purge_leaves_what_the_stack_did_not_make(bigdata: Terminal) -> None:
    bigdata.folder.mkdir()
    (bigdata.folder / "mine.txt").touch()
    assert bigdata("up", "--servers-only").returncode == 0
    assert bigdata("down", "--purge").returncode == 0
    assert [path.name for path in bigdata.folder.iterdir()] == ["mine.txt"]


def test_a_port_of_no_part_is_refused_with_those_there_are(bigdata: Terminal) -> None:
    shown = bigdata("up", "--servers-only", "--port", "mongo=27017")
    assert shown.returncode == 1
    assert shown.stderr.startswith("no part has a port named mongo; ports: postgres, redis, kafka, clickhouse, ")


def test_logs_of_a_part_that_never_ran(bigdata: Terminal) -> None:
    shown = bigdata("logs", "gateway")
    assert shown.returncode == 3
    assert "no log of gateway" in shown.stderr
