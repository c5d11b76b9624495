"""`docker compose` as a program: is there an engine, run one command, list the containers."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.process import StackError

FILES = ("docker-compose.yml", "deploy/compose/loopback.yaml")
_ASK_S = 30.0
# The first one builds four images and pulls eight.
_RUN_S = 1800.0
_TAIL_CHARACTERS = 600
_OTHERWISE = "or use the local stack (STACK=local), which needs none"


@dataclass(frozen=True)
class Container:
    """One line of `docker compose ps`."""

    service: str
    state: str  # created, running, paused, restarting, exited, dead
    health: str
    exit_code: int

    @property
    def ended_well(self) -> bool:
        return self.state == "exited" and self.exit_code == 0


def check_engine() -> None:
    """Raises StackError that says what is missing."""
    if shutil.which("docker") is None:
        raise StackError(f"no Docker engine: install and start Docker, {_OTHERWISE}")
    if _ask("compose", "version").returncode:
        raise StackError(f"docker has no compose plugin: install docker-compose-plugin, {_OTHERWISE}")
    if (asked := _ask("version", "--format", "{{.Server.Version}}")).returncode:
        raise StackError(f"no Docker engine: start Docker, {_OTHERWISE}; {_tail(asked)}")


def run(project: str, variables: Mapping[str, str], *arguments: str) -> str:
    """One `docker compose` command to its end; raises StackError with the end of what it printed."""
    folder = checkout()
    # A `.env` of a real installation beside docker-compose.yml must not mix in.
    options = ["--project-name", project, "--env-file", os.devnull, *(f"--file={folder / file}" for file in FILES)]
    try:
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["docker", "compose", *options, *arguments],  # noqa: S607 - wherever it is installed
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise StackError(f"docker compose {arguments[0]} takes longer than {_RUN_S:.0f} s") from None
    if done.returncode:
        raise StackError(f"docker compose {arguments[0]} failed: {_tail(done)}")
    return done.stdout


def containers(project: str, variables: Mapping[str, str]) -> list[Container]:
    return parse(run(project, variables, "ps", "--all", "--format", "json"))


def parse(listed: str) -> list[Container]:
    """One object per line, or one list in versions before 2.21."""
    text = listed.strip()
    documents: list[dict[str, Any]] = (
        json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    )
    return [
        Container(one["Service"], one["State"], one.get("Health") or "", int(one.get("ExitCode") or 0))
        for one in documents
    ]


def checkout() -> Path:
    """Where docker-compose.yml is: the images are built from the sources beside it."""
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / FILES[0]).is_file() and (folder / FILES[1]).is_file():
            return folder
    raise StackError(f"no {FILES[0]} here: docker compose needs a checkout of this project")


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - our own arguments
            ["docker", *arguments],  # noqa: S607 - wherever it is installed
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 1, "", f"docker does not answer within {_ASK_S:.0f} s")


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr + done.stdout).strip()[-_TAIL_CHARACTERS:]
