"""docs/settings.md, written from the settings classes: `make docs`. A test compares the page with them."""

import sys
from collections.abc import Iterator
from typing import Any

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from audit.settings import Settings as AuditSettings
from common import prepare
from common.settings import ProcessSettings
from credits.settings import Settings as CreditsSettings
from gateway.settings import Settings as GatewaySettings
from ingest.settings import Settings as IngestSettings

# What each process reads of its environment, by the name it has in compose and Kubernetes.
SETTINGS: dict[str, type[ProcessSettings]] = {
    "gateway": GatewaySettings,
    "credits": CreditsSettings,
    "ingest-worker": IngestSettings,
    "audit-logger": AuditSettings,
    "prepare": prepare.Settings,
}
_TITLES = {"gateway": "api-gateway", "prepare": "prepare (`python -m common.prepare`)"}
_HEAD = """# Settings

Written from the settings classes by `make docs`; a test compares. Every name is an environment variable; all but
secrets may stand in `configs/config.yaml` too, in lower case, under `common` or the service. The environment wins over
`.env`, and that over the file. A bad value stops the process with one line that names the setting. **Needed**: no
default.
"""


def page() -> str:
    everywhere = set.intersection(*(set(one.model_fields) for one in SETTINGS.values()))
    parts = [_HEAD, "\n## Every process\n\n", _table(GatewaySettings, everywhere)]
    for name, settings in SETTINGS.items():
        parts += [f"\n## {_TITLES.get(name, name)}\n\n", _table(settings, set(settings.model_fields) - everywhere)]
    return "".join(parts)


def _table(settings: type[ProcessSettings], names: set[str]) -> str:
    rows = "".join(_row(name, field) for name, field in settings.model_fields.items() if name in names)
    return f"| setting | default | bounds | what it says |\n|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    return f"| {name.upper()} | {_default(field)} | {', '.join(_bounds(field))} | {field.description or ''} |\n"


def _default(field: FieldInfo) -> str:
    secret = "SecretStr" in str(field.annotation) or field.annotation is SecretStr
    if field.is_required():
        return "**needed**, secret" if secret else "**needed**"
    if field.default is None:
        return "none, secret" if secret else "none"
    return f"`{_plain(field.default)}`"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    if hasattr(value, "model_dump"):
        return ", ".join(f"{k} {v}" for k, v in value.model_dump(exclude_none=True).items()) or "no limit"
    return str(value)


def _bounds(field: FieldInfo) -> Iterator[str]:
    for one in field.metadata:
        if isinstance(one, annotated_types.Ge):
            yield f"≥ {one.ge}"
        elif isinstance(one, annotated_types.Gt):
            yield f"> {one.gt}"
        elif isinstance(one, annotated_types.Le):
            yield f"≤ {one.le}"
        elif isinstance(one, annotated_types.Lt):
            yield f"< {one.lt}"


if __name__ == "__main__":
    sys.stdout.write(page())
