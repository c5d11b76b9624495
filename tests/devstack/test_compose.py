"""docker compose as another kind of stack: what holds without an engine, by a `docker` that only answers."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bigdata_client.cli import build
from bigdata_client.command.target import LocalStack
from devstack import compose_command, local_stack, state
from devstack.backup import backup
from devstack.compose import PORTS, STORES, ComposeStack, variables
from devstack.part import Site
from devstack.process import StackError
from devstack.state import Secrets
from support.repository import ROOT

# Answers as an engine would and keeps what it was asked.
_DOCKER = """\
#!/bin/sh
echo "$*" >> {folder}/asked
case "$*" in
  "version "*) exit {engine} ;;
  *" ps "*) cat {folder}/listed ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return _docker(tmp_path, monkeypatch, engine=0)


def _docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: int) -> Path:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(_DOCKER.format(folder=tmp_path, engine=engine))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return tmp_path


def _site() -> Site:
    ports = {name: number for number, name in enumerate((*PORTS, *STORES), 20_000)}
    return Site(Path("/nowhere"), ports, Secrets(), "compose")


async def test_without_docker_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"no Docker engine: install and start Docker, or use the local stack"):
        await ComposeStack(tmp_path / "home").up()
    assert not (tmp_path / "home").exists()


async def test_without_an_engine_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _docker(tmp_path, monkeypatch, engine=1)
    with pytest.raises(StackError, match=r"no Docker engine: start Docker, or use the local stack"):
        await ComposeStack(tmp_path / "home").up()


async def test_stores_come_up_on_ports_and_with_secrets_that_stay(docker: Path) -> None:
    stack = ComposeStack(docker / "home")
    await stack.up(servers_only=True)
    again = ComposeStack(docker / "home")
    await again.up(servers_only=True)
    assert variables(again.site) == variables(stack.site)
    started = (docker / "asked").read_text().splitlines()[-1]
    assert started.startswith(f"compose --project-name {stack.project} --env-file /dev/null --file=")
    assert started.endswith("up --detach --build postgres redis kafka clickhouse minio bucket prepare")


async def test_commands_find_its_gateway_without_being_told(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = ComposeStack(docker / "home")
    await stack.up(servers_only=True)
    monkeypatch.setenv(local_stack.HOME, str(stack.folder))
    assert local_stack.find() is None
    known = state.load(stack.folder)
    assert known is not None
    known.user_key = "bd_user"
    state.save(stack.folder, known)
    assert local_stack.find() == LocalStack(stack.url(), "bd_user", known.secrets.admin_key)


async def test_the_status_is_what_the_engine_says(docker: Path) -> None:
    stack = ComposeStack(docker / "home")
    await stack.up(servers_only=True)
    lines = [
        {"Service": "gateway", "State": "running", "Health": "healthy", "ExitCode": 0},
        {"Service": "credits", "State": "running", "Health": "starting", "ExitCode": 0},
        {"Service": "prepare", "State": "exited", "Health": "", "ExitCode": 0},
        {"Service": "audit-logger", "State": "exited", "Health": "", "ExitCode": 2},
    ]
    (docker / "listed").write_text("\n".join(map(json.dumps, lines)))
    found = stack.status()
    assert found.gateway == f"http://127.0.0.1:{stack.site.ports['gateway']}"
    assert found.postgres is None
    assert {name: one.state for name, one in found.processes.items()} == {
        "gateway": "running",
        "credits": "running",
        "prepare": "stopped",
        "audit-logger": "dead",
    }
    assert found.processes["credits"].detail == "starting"
    assert "exit code 2" in found.processes["audit-logger"].detail


def test_older_versions_list_containers_as_one_document() -> None:
    listed = json.dumps([{"Service": "redis", "State": "running", "ExitCode": 0}])
    assert compose_command.parse(listed) == [compose_command.Container("redis", "running", "", 0)]
    assert compose_command.parse("") == []


async def test_a_folder_of_the_local_stack_is_refused(docker: Path) -> None:
    local = docker / "home"
    local.mkdir()
    (local / "stack.json").write_text(json.dumps({"version": 1, "secrets": {}, "processes": {}, "kafka": "local"}))
    with pytest.raises(StackError, match="has a local stack"):
        await ComposeStack(local).up()


async def test_what_containers_cannot_do_is_said(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = ComposeStack(docker / "home")
    await stack.up(servers_only=True)
    with pytest.raises(StackError, match="FAULTPOINTS cannot be given"):
        await stack.start("gateway", {"FAULTPOINTS": "x"})
    with pytest.raises(StackError, match="use the local stack"):
        await stack.start_extra("gateway")
    with pytest.raises(StackError, match="in volumes"):
        await backup(stack, docker / "archive")
    (docker / "listed").write_text(json.dumps({"Service": "gateway", "State": "running"}))
    monkeypatch.setenv("STACK", "compose")
    shown = CliRunner().invoke(build(), ["logs", "gateway", "-C", str(stack.folder)])
    assert f"docker compose -p {stack.project} logs gateway" in shown.stderr


def test_every_variable_of_both_files_has_a_value() -> None:
    given = variables(_site())
    for file in compose_command.FILES:
        text = (ROOT / file).read_text(encoding="utf-8")
        needed = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)(?::\?[^}]*)?\}", text))
        assert needed <= given.keys(), f"{file}: {needed - given.keys()}"
    assert all(given.values())


def test_each_port_shows_one_place_and_only_on_loopback() -> None:
    shown = yaml.safe_load((ROOT / compose_command.FILES[1]).read_text(encoding="utf-8"))["services"]
    services = yaml.safe_load((ROOT / compose_command.FILES[0]).read_text(encoding="utf-8"))["services"]
    published = [port for one in shown.values() for port in one["ports"]]
    assert all(port.startswith("127.0.0.1:${") for port in published)
    variables_used = re.findall(r"127\.0\.0\.1:\$\{([A-Z_]+)\}", " ".join(published))
    assert sorted(variables_used) == sorted(
        f"{name.upper().replace('-', '_')}_PORT" for name in (*PORTS, *STORES) if name != "proxy"
    )
    assert shown.keys() <= services.keys()
