"""One target under libFuzzer, guided by what our code does: `python -m fuzz.one TARGET [options of libFuzzer]`."""

import sys

import atheris

from ingest.without_pandas import hide_pandas

_OURS = ["audit", "common", "gateway", "ingest"]


def main() -> None:
    hide_pandas()
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=_OURS):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is instrumented
    atheris.Setup(sys.argv, TARGETS[name], enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
