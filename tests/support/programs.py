"""Programs that came with the development dependencies, beside the Python that runs the tests."""

import sys
from pathlib import Path


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)
