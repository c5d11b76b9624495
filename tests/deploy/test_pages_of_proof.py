"""Pages that name tests name tests that exist; every fault of the design has one."""

import ast
import re
from functools import cache

import pytest

from support import proof_page
from support.hostile_inputs import HOSTILE
from support.repository import ROOT


@cache
def existing() -> frozenset[str]:
    return frozenset(
        f"{file.relative_to(ROOT)}::{node.name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("number", proof_page.FAULTS.keys() - {proof_page.SOAK})
def test_every_fault_is_injected_by_a_test(number: int) -> None:
    assert any(number in proof.numbers for proof in proof_page.proofs()), proof_page.FAULTS[number]


def test_every_hostile_input_is_sent_by_tests_that_exist() -> None:
    named = {test for inputs in HOSTILE.values() for tests in inputs.values() for test in tests}
    assert {f"tests/{test}" for test in named} <= existing()


def test_the_page_is_what_the_tests_say() -> None:
    assert (ROOT / "docs/proof.md").read_text(encoding="utf-8") == proof_page.page(), "run `make docs`"


def test_every_test_that_the_security_page_names_exists() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) >= 10
    for file, name in named:
        assert (ROOT / file).exists(), file
        assert not name or f"{file}::{name}" in existing(), f"{file}::{name}"
    sections = re.findall(r"^## (API\d+)", page, re.MULTILINE)
    assert sections == [f"API{number}" for number in range(1, 11)]
