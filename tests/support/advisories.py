"""Known advisories against everything that is locked, by pip-audit: `python -m support.advisories`.

Fails on what it finds. Where the service of advisories does not answer nothing is audited, which is said loudly, and is
a failure only with AUDIT_REQUIRED.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

from support.repository import ROOT

_SERVICE = "https://pypi.org/pypi/pip/25.0/json"
_ANSWER_S = 20
_AUDIT = (sys.executable, "-m", "pip_audit", "--requirement", "requirements.lock", "--no-deps", "--disable-pip")


def main() -> None:
    if not answers():
        sys.stdout.write("!!! NOTHING WAS AUDITED: the service of advisories does not answer from here\n")
        sys.exit(1 if os.environ.get("AUDIT_REQUIRED") else 0)
    strict = ["--strict"] if os.environ.get("AUDIT_REQUIRED") else []
    sys.exit(subprocess.run([*_AUDIT, *strict], cwd=ROOT, check=False, timeout=900).returncode)


def answers() -> bool:
    """Whether it knows a package that everybody has, with its advisories; a mirror of packages alone does not."""
    try:
        with urllib.request.urlopen(_SERVICE, timeout=_ANSWER_S) as answer:
            return "vulnerabilities" in json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return False


if __name__ == "__main__":
    main()
