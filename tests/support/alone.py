"""`python -m support.alone MODULE …`: the main() of a module beside this one, in a process like the worker's."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from ingest.without_pandas import hide_pandas

_TESTS = Path(__file__).parents[1]


def alone(module: str, *args: object, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run it; it may die."""
    return subprocess.run(
        [sys.executable, "-m", "support.alone", module, *map(str, args)],
        env=os.environ | {"PYTHONPATH": str(_TESTS), "ARROW_DEFAULT_MEMORY_POOL": "system"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def main() -> None:
    hide_pandas()
    module = sys.argv.pop(1)
    importlib.import_module(f"support.{module}").main()


if __name__ == "__main__":
    main()
