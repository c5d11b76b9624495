"""docs/settings.md and configs/config.yaml against the settings classes."""

import yaml

from devstack.settings_page import page
from support.repository import ROOT
from support.services_settings import SETTINGS


def test_the_page_says_what_the_classes_say() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_file_of_defaults_has_every_setting_with_its_default() -> None:
    document = yaml.safe_load((ROOT / "configs/config.yaml").read_text(encoding="utf-8"))
    for name in ("gateway", "credits", "ingest-worker", "audit-logger"):
        settings = SETTINGS[name]
        said = document["common"] | document[settings.config_section]
        for field, one in settings.model_fields.items():
            if one.is_required() or one.default is None:
                continue  # an address, a secret, or off: only the environment has it
            assert field in said, f"configs/config.yaml lacks {settings.config_section}.{field}"
            default = one.default
            if field != "plans":
                assert str(said[field]) == str(default), field
