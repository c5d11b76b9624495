"""The files of an installation, by the linters of their kind."""

import subprocess

import pytest

from support.programs import program
from support.repository import ROOT


def lint(*command: str) -> None:
    done = subprocess.run(
        [program(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    lint("hadolint", "deploy/docker/Dockerfile")


def test_every_yaml_file_passes_its_linter() -> None:
    where = ("deploy", "configs", ".github", "docker-compose.yml")
    lint("yamllint", "--strict", "--config-file", "deploy/yamllint.yaml", *where)


def test_every_shell_script_passes_its_linter() -> None:
    scripts = [str(path.relative_to(ROOT)) for path in sorted((ROOT / ".ci").iterdir()) if path.is_file()]
    lint("shellcheck", *scripts)


@pytest.mark.parametrize("service", ["gateway", "credits", "ingest-worker", "audit-logger"])
def test_the_image_of_a_service_has_its_own_target_and_lock(service: str) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    assert f"FROM runtime AS {service}\n" in dockerfile
    lock = (ROOT / f"deploy/docker/requirements/{service}.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    everything = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = {line.split(" ")[0] for line in lock.splitlines() if "==" in line.split(";")[0]}
    assert pins <= {line.split(" ")[0] for line in everything.splitlines()}, "run `make locks`"
