"""The files of an installation, by the linters of their kind."""

import ast
import re
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from support.programs import program
from support.repository import ROOT

# Each image's lock, by the folder of its service.
IMAGES = {
    "gateway": "services/api-gateway",
    "credits": "services/credits",
    "ingest-worker": "services/ingest-worker",
    "audit-logger": "services/audit-logger",
}


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


@pytest.mark.parametrize("service", IMAGES)
def test_the_image_of_a_service_has_its_own_target_and_lock(service: str) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    assert f"FROM runtime AS {service}\n" in dockerfile
    lock = (ROOT / f"deploy/docker/requirements/{service}.lock").read_text(encoding="utf-8")
    assert "--hash=sha256:" in lock
    everything = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins = {line.split(" ")[0] for line in lock.splitlines() if "==" in line.split(";")[0]}
    assert pins <= {line.split(" ")[0] for line in everything.splitlines()}, "run `make locks`"


@pytest.mark.parametrize("service", IMAGES)
def test_the_image_of_a_service_has_every_library_that_it_imports(service: str) -> None:
    """An import that only the lock of development satisfies stops the container at its first start."""
    lock = (ROOT / f"deploy/docker/requirements/{service}.lock").read_text(encoding="utf-8")
    locked = {_normal(line.split("==")[0]) for line in lock.splitlines() if "==" in line.split(";")[0]}
    providers = packages_distributions()
    for module in sorted(_imported(ROOT / IMAGES[service] / "src") | _imported(ROOT / "libs/common/src")):
        distributions = {_normal(name) for name in providers.get(module, ())}
        ours = any(name.startswith("bigdata-") for name in distributions)
        assert ours or not distributions or distributions & locked, f"{module} is not in {service}.lock: `make locks`"


def _imported(folder: Path) -> set[str]:
    """Top-level names of what the files below import, wherever in them."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
