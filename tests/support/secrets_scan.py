"""Secrets in the tree: `python -m support.secrets_scan` fails on what is not in .secrets.baseline.

What is in it was looked at: examples, and passwords of stacks that live for a test. It is compared by file and value
and not by line, so that a line more above costs nobody anything. `--keep` writes it.
"""

import json
import subprocess
import sys
from typing import Any

from support.repository import ROOT

BASELINE = ROOT / ".secrets.baseline"
# Hashes of packages, pictures, bytes that a fuzzer made.
_LEFT_OUT = r"(\.lock$|^docs/pictures/|^tests/fuzz/findings/|^\.secrets\.baseline$)"
# Never by asking a service whether it takes them.
_SCAN = (sys.executable, "-m", "detect_secrets", "scan", "--no-verify", "--exclude-files", _LEFT_OUT)


def main() -> None:
    found = subprocess.run(_SCAN, cwd=ROOT, check=True, capture_output=True, text=True, timeout=900).stdout
    if "--keep" in sys.argv:
        BASELINE.write_text(found, encoding="utf-8")
        return
    known = _secrets(json.loads(BASELINE.read_bytes()))
    new = {where: line for where, line in _secrets(json.loads(found)).items() if where not in known}
    for (file, _, kind), line in new.items():
        sys.stdout.write(f"{file}:{line}: {kind}\n")
    if new:
        sys.exit(f"{len(new)} possible secrets: take them out or, after a good look, keep them with --keep")


def _secrets(document: dict[str, Any]) -> dict[tuple[str, str, str], int]:
    return {
        (file, one["hashed_secret"], one["type"]): one["line_number"]
        for file, secrets in document["results"].items()
        for one in secrets
    }


if __name__ == "__main__":
    main()
