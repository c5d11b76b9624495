"""configs/config.yaml names every setting with its default; docs/settings.md has those without one too."""

from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from audit.settings import Settings as Audit
from common.settings import ProcessSettings
from credits.settings import Settings as Credits
from gateway.settings import Settings as Gateway
from ingest.settings import Settings as Ingest
from support.repository import ROOT

SERVICES: list[type[ProcessSettings]] = [Gateway, Credits, Ingest, Audit]


def _as_written(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_written(one) for name, one in value.items()}
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    return value if isinstance(value, bool | int | float) else str(value)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.config_section)
def test_every_default_stands_in_the_config_file(service: type[ProcessSettings]) -> None:
    document = yaml.safe_load((ROOT / "configs/config.yaml").read_text())
    written = document["common"] | document[service.config_section]
    for name, field in service.model_fields.items():
        if field.default is not PydanticUndefined and field.default is not None:
            assert written.get(name) == _as_written(field.default), name


def test_no_section_names_what_is_not_a_setting() -> None:
    document = yaml.safe_load((ROOT / "configs/config.yaml").read_text())
    for service in SERVICES:
        assert set(document[service.config_section]) <= set(service.model_fields)
    assert set(document["common"]) <= {name for service in SERVICES for name in service.model_fields}
