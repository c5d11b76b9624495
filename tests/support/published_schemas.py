"""Schemas that other projects publish as Go modules: the custom resources of operators, and docker compose's file."""

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

_MODULES = {
    "keda.sh": ("github.com/kedacore/keda/v2@v2.17.2", "config/crd/bases"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.83.0",
        "example/prometheus-operator-crd",
    ),
    "postgresql.cnpg.io": ("github.com/cloudnative-pg/cloudnative-pg@v1.27.0", "config/crd/bases"),
}
_COMPOSE = "github.com/compose-spec/compose-go/v2@v2.9.0"
_DOWNLOAD_S = 120


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 gives a lone `=` a meaning that nobody uses; one of these files has it as a plain value."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def has_schema(api_version: str) -> bool:
    return api_version.partition("/")[0] in _MODULES


@cache
def custom_resources(group: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(apiVersion, kind) → the JSON schema of its objects."""
    module, folder = _MODULES[group]
    found = {}
    for file in sorted((_module(module) / folder).glob("*.yaml")):
        for definition in yaml.load_all(file.read_text(encoding="utf-8"), Loader=_Loader):
            if not definition or definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = closed_schema(schema)
    return found


def assert_fits(document: Any, schema: dict[str, Any]) -> None:
    """Like jsonschema.validate, which would also judge the schema: that one is written for another language's regex."""
    faults = [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(document)]
    assert not faults, faults


def compose_file() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        (_module(_COMPOSE) / "schema" / "compose-spec.json").read_text(encoding="utf-8")
    )
    return schema


@cache
def _module(name: str) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed: it fetches the schemas that other projects publish")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [go, "mod", "download", "-json", name],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_S,
            check=False,
        )
    if done.returncode:
        pytest.skip(f"the Go module proxy does not give {name}: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


def closed_schema(schema: Any) -> Any:
    """The API server drops what a schema does not name: here that is a mistake of ours."""
    if isinstance(schema, list):
        return [closed_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: closed_schema(value) for name, value in schema.items()}
    if isinstance(schema.get("pattern"), str):
        closed["pattern"] = schema["pattern"].replace("^(?i)", "(?i)^")
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        properties = schema["properties"]
        is_root_or_metadata = "metadata" in properties or "x-kubernetes-preserve-unknown-fields" in schema
        if "additionalProperties" not in schema and not is_root_or_metadata:
            closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed.pop("format", None)
        closed["type"] = ["integer", "string"]
    return closed
