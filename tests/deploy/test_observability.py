"""Dashboards and alerts stand on metrics that exist, and every alert has its runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.metrics import NAMES
from devstack.rules_manifest import manifest
from support.repository import ROOT

OBSERVABILITY = ROOT / "deploy" / "observability"
RULES = OBSERVABILITY / "rules.yaml"
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_of(expression: str) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bbigdata_[a-z0-9_]+", expression)}


def test_there_is_a_dashboard_for_each_part() -> None:
    assert {path.stem for path in DASHBOARDS} == {"gateway", "credits", "ingestion", "audit", "money"}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_names_a_metric_that_exists(path: Path) -> None:
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            assert metrics_of(target["expr"]), panel["title"]
            assert metrics_of(target["expr"]) <= set(NAMES), panel["title"]


def test_every_rule_names_a_metric_that_exists() -> None:
    for rule in rules():
        assert metrics_of(rule["expr"]) <= set(NAMES), rule


def test_a_rule_asks_for_values_of_labels_that_the_code_gives() -> None:
    """RateLimiterIsLocal once waited for a value that nothing wrote."""
    sources = [path.read_text(encoding="utf-8") for path in ROOT.glob("services/*/src/**/*.py")]
    asked = [found for rule in rules() for found in re.findall(r"(bigdata_\w+)\{([^}]*)\}", rule["expr"])]
    for metric, labels in asked:
        declaring = [text for text in sources if f'"{metric}"' in text]
        for value in re.findall(r'\b(?:by|result|outcome)="(\w+)"', labels):
            assert any(f'"{value}"' in text for text in declaring), f"{metric} never has {value}"


def test_every_alert_has_a_runbook_in_the_operations_page() -> None:
    headings = {
        line.lstrip("# ").strip().lower()
        for line in (ROOT / "docs/operations.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["runbook"] == (f"docs/operations.md#{rule['alert'].lower()}")
            assert rule["alert"].lower() in headings, rule["alert"]


def test_the_operator_gets_the_same_rules() -> None:
    written = (ROOT / "deploy/k8s/components/monitoring/rules.yaml").read_text(encoding="utf-8")
    assert written == manifest(RULES.read_text(encoding="utf-8")), "run `make docs`"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_the_rules_pass_promtool_and_fire_when_they_should(tmp_path: Path) -> None:
    cases, decisions = tmp_path / "cases.yaml", "bigdata_rate_limit_decisions_total"
    cases.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": "1m",
                "tests": [
                    _case("bigdata_requests_total{status='500'}", "0+10x70", "ErrorBudgetBurns", fires=True),
                    _case("bigdata_requests_total{status='200'}", "0+10x70", "ErrorBudgetBurns", fires=False),
                    _case("bigdata_reconcile_faults{question='q'}", "0x30 1x40", "BooksDisagree", fires=True),
                    _case("bigdata_reconcile_faults{question='q'}", "0x70", "BooksDisagree", fires=False),
                    _case(f"{decisions}{{by='process',result='admitted'}}", "0+9x70", "RateLimiterIsLocal", fires=True),
                    _case(f"{decisions}{{by='process',result='refused'}}", "0+9x70", "RateLimiterIsLocal", fires=False),
                    _case("bigdata_spool_oldest_seconds", "90x70", "SettlementsWait", fires=True),
                    _case("bigdata_dead_letters_total{topic='t'}", "_x60 1x10", "DeadLetters", fires=True),
                ],
            }
        ),
        encoding="utf-8",
    )
    for command in (("check", "rules", str(RULES)), ("test", "rules", str(cases))):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _case(series: str, values: str, alert: str, *, fires: bool) -> dict[str, Any]:
    ask = f"count(ALERTS{{alertname='{alert}', alertstate='firing'}}) or vector(0)"
    return {
        "interval": "1m",
        "input_series": [{"series": series.replace("'", '"'), "values": values}],
        "promql_expr_test": [{"expr": ask, "eval_time": "65m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}],
    }
