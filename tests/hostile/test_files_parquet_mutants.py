"""A thousand broken Parquet files: each is read or refused, and none ends a worker."""

import random
from contextlib import suppress

import pytest

from common.errors import Permanent
from ingest.formats.batch import Batch
from ingest.rows import rows_of
from support.alone import alone
from support.hostile_files import mutants, parquet_files
from support.ingest_parts import batches, dataset

COUNT, SEED = 1000, 20_260_101
THINGS = dataset()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of each mutant, by a process that is as good as the child: when it dies of one, another goes on with the next."""
    report = tmp_path_factory.mktemp("mutants") / "report"
    report.touch()
    first = 0
    for _ in range(50):
        done = alone("read_mutants", COUNT, SEED, first, report, timeout_s=100)
        lines = report.read_text().splitlines()
        if done.returncode == 0:
            return lines
        assert done.returncode < 0, done.stderr  # of a signal: anything else is a fault of the test
        assert lines, done.stderr
        first = int(lines[-1].split()[0]) + 1
        report.write_text("\n".join([*lines[:-1], f"{lines[-1].strip()} died"]) + "\n")
    raise AssertionError(f"the reader died of 50 of {first} files")


def test_every_mutant_is_read_or_refused(verdicts: list[str]) -> None:
    assert len(verdicts) == COUNT
    assert {line.split()[1] for line in verdicts} <= {"read", "refused", "died"}, [
        line for line in verdicts if "fault" in line
    ]
    read = sum(" read " in line for line in verdicts)
    assert 0 < read < COUNT


def test_in_its_child_process_no_mutant_ends_the_reader(verdicts: list[str]) -> None:
    """Those that killed the process above, and a few others."""
    died = [int(line.split()[0]) for line in verdicts if line.endswith("died")][:4]
    others = random.Random(SEED).sample(range(COUNT), 6)  # noqa: S311 - it repeats on purpose
    chosen = set(died + others)
    for number, data in enumerate(mutants(parquet_files(), COUNT, SEED)):
        if number not in chosen:
            continue
        found: list[Batch] = []
        with suppress(Permanent):  # it is refused, and this process goes on
            found = batches(data, THINGS)
        for batch in found:
            rows = rows_of(batch, THINGS)
            assert len(rows) + len(rows.faults) == len(batch.piece)
