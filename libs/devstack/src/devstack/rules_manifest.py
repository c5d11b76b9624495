"""The alert rules of deploy/observability/rules.yaml as an object of the Prometheus operator: `make docs`."""

import sys
from pathlib import Path

import yaml

RULES = Path("deploy/observability/rules.yaml")


def manifest(rules: str) -> str:
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "bigdata"},
        "spec": yaml.safe_load(rules),
    }
    head = f"# Written from {RULES} by `make docs`; a test compares.\n"
    return head + yaml.safe_dump(document, sort_keys=False, width=140)


if __name__ == "__main__":
    sys.stdout.write(manifest(RULES.read_text(encoding="utf-8")))
