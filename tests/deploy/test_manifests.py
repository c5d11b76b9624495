"""Every overlay, rendered as `kubectl apply -k` would: schemas, limits, secrets, the settings that services read."""

import subprocess
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from common import topics
from support import published_schemas
from support.programs import program
from support.repository import ROOT
from support.services_settings import SETTINGS

OVERLAYS = ("dev", "staging", "prod")
KUBERNETES = "1.33"
# No registry gives this operator's schema, its Go module is withdrawn: rendered and read over, not validated.
UNCHECKED = {"clickhouse.altinity.com"}
# From Maven, on Java 21: test_strimzi.py.
MAVEN = {"kafka.strimzi.io"}


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    folder = ROOT / "deploy" / "k8s" / "overlays" / overlay
    done = subprocess.run(
        [program("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return [one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one]


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in rendered(overlay) if one["kind"] == kind]


def pods(overlay: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (one["metadata"]["name"], one["spec"]["template"]["spec"])
        for one in rendered(overlay)
        if one["kind"] in {"Deployment", "Job"}
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_fits_the_schema_of_its_kind(overlay: str) -> None:
    for one in rendered(overlay):
        if one["apiVersion"].partition("/")[0] in UNCHECKED | MAVEN or published_schemas.has_schema(one["apiVersion"]):
            continue
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_every_custom_resource_fits_what_its_operator_publishes(overlay: str) -> None:
    checked = 0
    for one in rendered(overlay):
        if published_schemas.has_schema(one["apiVersion"]):
            group = one["apiVersion"].partition("/")[0]
            schema = published_schemas.custom_resources(group)[one["apiVersion"], one["kind"]]
            published_schemas.assert_fits(one, schema)
            checked += 1
    assert checked >= 4


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_stands_in_a_manifest(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for _, pod in pods(overlay):
        for container in pod["containers"]:
            for variable in container.get("env", []):
                assert not any(word in variable["name"] for word in ("PASSWORD", "TOKEN", "KEY", "SECRET", "_URL"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_name_of_a_config_map_is_a_setting_that_its_service_reads(overlay: str) -> None:
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(overlay, "ConfigMap")}
    for name, pod in pods(overlay):
        service = name.removesuffix("-migrate")
        if service not in SETTINGS:
            continue
        read = {field.upper() for field in SETTINGS[service].model_fields}
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                if reference := source.get("configMapRef"):
                    own = maps[reference["name"]]
                    unknown = set() if "bigdata-common" in reference["name"] else own.keys() - read
                    assert not unknown, f"{service} does not read {unknown}"
                    assert own.keys() & read, f"{service} reads nothing of {reference['name']}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_is_restricted_and_bounded(overlay: str) -> None:
    for name, pod in pods(overlay):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert not context["allowPrivilegeEscalation"], name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_gets_longer_to_stop_than_its_process_takes(overlay: str) -> None:
    for deployment in of_kind(overlay, "Deployment"):
        name, pod = deployment["metadata"]["name"], deployment["spec"]["template"]["spec"]
        if name not in SETTINGS:
            continue
        shutdown_s = SETTINGS[name].model_fields["shutdown_s"].default
        pause_s = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= shutdown_s + pause_s + 15, name
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= pod["containers"][0].keys(), name
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, name


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_workers_follow_the_lag_of_topics_that_exist_and_never_outnumber_their_partitions(overlay: str) -> None:
    partitions = {topic.name: topic.partitions for topic in topics.ALL}
    scaled = of_kind(overlay, "ScaledObject")
    assert {one["metadata"]["name"] for one in scaled} == {"ingest-worker", "audit-logger"}
    for one in scaled:
        followed = [trigger["metadata"]["topic"] for trigger in one["spec"]["triggers"]]
        assert set(followed) <= partitions.keys()
        assert one["spec"]["maxReplicaCount"] <= max(partitions[topic] for topic in followed)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_covered_by_a_budget_and_a_network_policy(overlay: str) -> None:
    budgets = {one["metadata"]["name"] for one in of_kind(overlay, "PodDisruptionBudget")}
    policies = {one["metadata"]["name"] for one in of_kind(overlay, "NetworkPolicy")}
    services = {one["metadata"]["name"] for one in of_kind(overlay, "Deployment")} & SETTINGS.keys()
    assert services == SETTINGS.keys() - {"prepare"}
    assert services <= budgets
    assert services <= policies
