"""docker-compose.yml against its schema, the settings that services read, and the users of the local engine."""

import hashlib
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from common.postgres_roles import ROLES
from common.settings import load_settings
from devstack.clickhouse_http.users import GATEWAY_LIMITS, OVERFLOW_MODES
from support import published_schemas
from support.compose_file import compose, environment_of, example, filled_in
from support.repository import ROOT
from support.services_settings import LIBRARIES, SETTINGS

USERS = ROOT / "deploy" / "compose" / "clickhouse-users.xml"
BUCKET = {"AWS_ENDPOINT", "AWS_REGION", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def service_of(name: str) -> str | None:
    base = name.removeprefix("migrate-")
    return base if base in SETTINGS else None


def test_the_file_fits_the_compose_specification() -> None:
    published_schemas.assert_fits(compose(), published_schemas.compose_file())


def test_a_service_gets_only_settings_that_it_reads_and_all_that_have_no_default() -> None:
    for name, service in compose()["services"].items():
        if (kind := service_of(name)) is None:
            continue
        fields = SETTINGS[kind].model_fields
        given = set(service["environment"])
        assert not given - {field.upper() for field in fields} - LIBRARIES - BUCKET, name
        image = {"SPOOL_FOLDER"}  # the image names it
        needed = {field.upper() for field, one in fields.items() if one.is_required()}
        assert needed <= given | image, f"{name} lacks {needed - given}"


def test_the_gateway_trusts_the_proxy_and_nothing_else_on_its_network() -> None:
    document = compose()
    address = document["services"]["proxy"]["networks"]["inside"]["ipv4_address"]
    (network,) = document["networks"]["inside"]["ipam"]["config"]
    for variables in ({}, {"NETWORK_PREFIX": "10.1.2"}):
        trusted = ip_address(environment_of("gateway", example() | variables)["TRUSTED_PROXIES"])
        assert trusted == ip_address(filled_in(address, variables))
        assert trusted in ip_network(filled_in(network["subnet"], variables))
        assert trusted not in ip_network(filled_in(network["ip_range"], variables))


def test_every_variable_without_a_default_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    for variable in set(re.findall(r"(?<!\$)\$\{([A-Z_]+)\}", text)) | set(re.findall(r"\$\{([A-Z_]+):\?", text)):
        assert re.search(rf"^{variable}=", example, re.MULTILINE), variable


def test_a_service_starts_after_what_it_reads_is_migrated_and_healthy() -> None:
    services = compose()["services"]
    assert "service_completed_successfully" in str(services["gateway"]["depends_on"]["migrate-credits"])
    for name in ("gateway", "credits", "ingest-worker", "audit-logger"):
        migration = services[name]["depends_on"][f"migrate-{name}"]
        assert migration["condition"] == "service_completed_successfully"
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["stop_grace_period"] == "40s"


def test_only_the_proxy_and_the_dashboards_are_reachable_from_outside() -> None:
    assert {name for name, one in compose()["services"].items() if "ports" in one} == {"proxy", "grafana"}


def test_every_role_gets_a_password() -> None:
    passwords = compose()["services"]["prepare"]["environment"]["POSTGRES_ROLE_PASSWORDS"]
    assert all(f'"{role}"' in passwords for role in ROLES)


def test_the_gateway_has_the_limits_of_the_local_engine_and_cannot_lift_them() -> None:
    profile = ET.parse(USERS).getroot().find("profiles/gateway")  # noqa: S314 - our own file
    assert profile is not None
    assert profile.findtext("readonly") == "1"
    for name, most in GATEWAY_LIMITS.items():
        limit = profile.find(f"constraints/{name}")
        assert limit is not None, name
        assert (limit.findtext("min"), limit.findtext("max")) == ("1", str(most)), name
        assert limit.find("changeable_in_readonly") is not None, name
        assert 1 <= int(profile.findtext(name) or 0) <= most, name
    for mode in OVERFLOW_MODES:
        assert profile.findtext(mode) == "throw", mode
        assert profile.find(f"constraints/{mode}/const") is not None, mode


@pytest.mark.parametrize("name", [name for name in compose()["services"] if service_of(name)])
def test_a_service_starts_with_exactly_what_it_is_given(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its settings class takes the image's environment and the file's, and nothing of this machine's."""
    kind = service_of(name)
    assert kind is not None
    for field in SETTINGS[kind].model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    monkeypatch.chdir(tmp_path)  # no .env of a developer's
    monkeypatch.setenv("CONFIG_FILE", str(ROOT / "configs" / "config.yaml"))
    variables = example() | {"ADMIN_API_KEY": hashlib.sha256(b"a key").hexdigest()}
    given = {"SPOOL_FOLDER": "/var/lib/bigdata/spool"} | environment_of(name, variables)
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings(SETTINGS[kind])
    for variable in given.keys() & {field.upper() for field in SETTINGS[kind].model_fields}:
        assert getattr(settings, variable.lower()) is not None, variable
