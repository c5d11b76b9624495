"""Schemas of Strimzi's custom resources, made by its own generator: its jars come from Maven Central."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.published_schemas import closed_schema

_VERSION = "1.2.0"
_JAVA = 21  # what the jars of that version are compiled for
_MODEL = "io.strimzi.api.kafka.model"
_KINDS = {"Kafka": "kafka.Kafka", "KafkaNodePool": "nodepool.KafkaNodePool", "KafkaUser": "user.KafkaUser"}
_DOWNLOAD_S = 300
_GENERATE_S = 120
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bigdata</groupId><artifactId>strimzi</artifactId><version>1</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
_DEPENDENCY = (
    "<dependency><groupId>io.strimzi</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
)


def schemas(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(apiVersion, kind) → the JSON schema of its objects. Skips the test on a machine without Java 21 or Maven."""
    java, maven = _java(), shutil.which("mvn")
    if java is None or maven is None:
        pytest.skip(f"Java {_JAVA} and Maven make the schemas of Strimzi {_VERSION}; one of them is not installed")
    wanted = [_DEPENDENCY.format(name=name, version=_VERSION) for name in ("crd-generator", "api")]
    (folder / "pom.xml").write_text(_POM.format(dependencies="".join(wanted)), encoding="utf-8")
    jars = folder / "jars"
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}")
    fetched = _run(_DOWNLOAD_S, maven, "-q", "-B", "-f", str(folder / "pom.xml"), *goal)
    if fetched.returncode:
        pytest.skip(f"Maven Central does not give Strimzi {_VERSION}: {fetched.stdout[-400:]}")
    found = {}
    for kind, model in _KINDS.items():
        file = folder / f"{kind}.yaml"
        options = ("--yaml", "--crd-api-version", "v1", "--target-kube", "1.25+", f"{_MODEL}.{model}={file}")
        made = _run(_GENERATE_S, java, "-cp", f"{jars}/*", "io.strimzi.crdgenerator.CrdGenerator", *options)
        assert not made.returncode, made.stderr
        spec = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = closed_schema(schema)
    return found


@cache
def _java() -> str | None:
    program = shutil.which("java")
    if program is None:
        return None
    said = _run(_GENERATE_S, program, "-version").stderr
    version = re.search(r'version "(\d+)', said)
    return program if version and int(version[1]) >= _JAVA else None


def _run(deadline_s: float, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
