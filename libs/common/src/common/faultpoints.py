"""Named places where a test can kill the process, so that every crash in docs/operations.md has been seen.

FAULTPOINTS names them, comma separated: `ingest.inserted` dies at the first pass, `ingest.inserted:3` at the third.
The variable is read once at import: this is a test instrument, not a setting, and it is never in config.yaml.
"""

import os
import signal
from collections import Counter

_ARMED = {
    name: int(count or 1)
    for name, _, count in (item.strip().partition(":") for item in os.environ.get("FAULTPOINTS", "").split(","))
    if name
}
_passed: Counter[str] = Counter()


def faultpoint(name: str) -> None:
    """Kill this process with SIGKILL if the test armed this place; otherwise do nothing."""
    if name not in _ARMED:
        return
    _passed[name] += 1
    if _passed[name] >= _ARMED[name]:
        os.kill(os.getpid(), signal.SIGKILL)
