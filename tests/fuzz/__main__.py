"""Give the readers, the planner and the events' parsers bytes that nobody thought of: `make fuzz`.

`python -m fuzz [TARGET ...]`. FUZZ_SECONDS is the time of all targets together, FUZZ_SEED repeats a run. What is found
is printed, and kept where the last line says; moved to tests/fuzz/findings/TARGET/ it is a test of every day.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fuzz.seeds import SEEDS, WORDS
from fuzz.targets import TARGETS

_TESTS = Path(__file__).parents[1]
_INPUT_BYTES_MAX = 4096
_INPUT_S_MAX = 20
_MEMORY_MIB_MAX = 4096
_EXECUTED = re.compile(r"number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    executed: int
    covered: int
    findings: list[Path]
    said: str


def fuzz(name: str, seconds: int, seed: int, kept: Path) -> Outcome:
    corpus, findings = kept / name / "corpus", kept / name / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for data in SEEDS[name](seed):
        (corpus / sha256(data).hexdigest()[:16]).write_bytes(data)
    words = kept / name / "words"
    words.write_text("".join(f"{_quoted(word)}\n" for word in WORDS[name]))
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": _INPUT_BYTES_MAX,
        "timeout": _INPUT_S_MAX,
        "rss_limit_mb": _MEMORY_MIB_MAX,
        "dict": words,
        "artifact_prefix": f"{findings}/",
        "print_final_stats": 1,
    }
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.one", name, str(corpus), *(f"-{key}={value}" for key, value in options.items())],
        env=os.environ | {"PYTHONPATH": str(_TESTS)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=2 * seconds + 600,
        check=False,
    )
    said = done.stdout + done.stderr
    found = sorted(findings.iterdir())
    executed, covered = _EXECUTED.search(said), _COVERED.findall(said)
    if executed is None or (done.returncode and not found):
        raise SystemExit(f"{name}: the fuzzer itself failed\n{said[-4000:]}")
    return Outcome(int(executed[1]), int(covered[-1]) if covered else 0, found, said)


def _quoted(word: str) -> str:
    """In libFuzzer's notation."""
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else f"\\x{ord(one):02x}" for one in word) + '"'


def main() -> None:
    names = sys.argv[1:] or list(TARGETS)
    seconds, seed = int(os.environ.get("FUZZ_SECONDS", "120")), int(os.environ.get("FUZZ_SEED", "1"))
    kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
    failed = False
    for name in names:
        outcome = fuzz(name, max(1, seconds // len(names)), seed, kept)
        figures = {"executed": outcome.executed, "covered": outcome.covered, "findings": len(outcome.findings)}
        sys.stdout.write(f"{name}: {json.dumps(figures)}\n")
        sys.stdout.flush()
        if outcome.findings:
            failed = True
            sys.stdout.write(outcome.said[-4000:] + "\n")
    sys.stdout.write(f"seed {seed}, inputs in {kept}\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
