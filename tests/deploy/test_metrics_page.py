"""docs/metrics.md against the code, and what dashboards and alerts ask for against both."""

import json
import re

import pytest
import yaml

from common.metrics import NAMES
from devstack.metrics_page import SCRAPE, Metric, metrics, page
from support.repository import ROOT

PAGE = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
OBSERVABILITY = ROOT / "deploy/observability"
_SAMPLE = re.compile(r"^(bigdata_\w+)(?:\{(.*)\})? \S+$", re.MULTILINE)
_OF_A_KIND = {"counter": "", "gauge": "", "histogram": "_(bucket|sum|count)"}


def test_the_page_says_what_the_code_makes() -> None:
    assert page(PAGE) == PAGE, "run `make docs`"


def test_the_list_is_the_literal() -> None:
    assert sorted(NAMES) == [one.name for one in metrics()]


def test_the_scrape_is_of_these_metrics_with_these_labels() -> None:
    known = {one.name: one for one in metrics()}
    scrape = PAGE.partition(SCRAPE)[2]
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", scrape, re.MULTILINE))
    assert kinds == {name: known[name].kind for name in kinds}
    samples = _SAMPLE.findall(scrape)
    assert len(samples) > len(kinds)
    for name, labels in samples:
        assert set(re.findall(r'(\w+)="', labels)) - {"le"} == set(_metric(name, known).labels), name


def _metric(sample: str, known: dict[str, Metric]) -> Metric:
    for one in known.values():
        if re.fullmatch(one.name + _OF_A_KIND[one.kind], sample):
            return one
    raise AssertionError(f"{sample} is no metric of ours")


def expressions() -> list[str]:
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in (OBSERVABILITY / "dashboards").glob("*.json")]
    asked = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    groups = yaml.safe_load((OBSERVABILITY / "rules.yaml").read_text(encoding="utf-8"))["groups"]
    return [*asked, *(rule["expr"] for group in groups for rule in group["rules"])]


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_dashboards_and_alerts_ask_for_labels_that_exist(expression: str) -> None:
    known = {one.name: one for one in metrics()}
    asked: set[str] = set()
    offered: set[str] = {"le"}
    for name, chosen in re.findall(r"\b(bigdata_\w+)(?:\{([^}]*)\})?", expression):
        if (metric := known.get(re.sub(r"_(bucket|sum|count)$", "", name))) is not None:
            offered |= set(metric.labels)
            asked |= set(re.findall(r"(\w+)\s*[=!]~?", chosen))
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        asked |= {label.strip() for label in group.split(",")}
    assert asked <= offered
