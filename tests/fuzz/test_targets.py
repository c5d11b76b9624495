"""Every input that `make fuzz` begins with, and every one that it once found something with."""

from pathlib import Path

import pytest

from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

_FINDINGS = Path(__file__).with_name("findings")
_SEED = 20_261_122


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_wrong_with_what_a_fuzzer_begins_with(name: str) -> None:
    for data in SEEDS[name](_SEED):
        TARGETS[name](data)


@pytest.mark.parametrize("finding", sorted(_FINDINGS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_is_mended(finding: Path) -> None:
    TARGETS[finding.parent.name](finding.read_bytes())
