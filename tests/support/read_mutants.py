"""Reads many broken Parquet files one after the other in this process, which may die of any of them.

`python -m support.alone read_mutants COUNT SEED FIRST REPORT` appends a line per file to REPORT.
"""

import errno
import resource
import sys
from pathlib import Path

from ingest.cutting import cuts
from ingest.examine import Said, examined
from ingest.formats.layout import Unreadable
from ingest.formats.sandbox import Limits
from ingest.reading import Reading
from ingest.rows import rows_of
from ingest.source import Bytes
from support.hostile_files import mutants, parquet_files
from support.ingest_parts import dataset
from support.open_sandbox import open_sandbox

_MEMORY_BYTES = 1 << 30


def verdict(data: bytes) -> str:
    target, limits, stored = dataset(), Limits(), Bytes(data)
    try:
        layout = examined(stored, target, limits, Said())
        rows = 0
        for chunk in cuts(layout, stored, 1):
            for batch in Reading(layout, chunk, stored, target, limits).batches():
                found = rows_of(batch, target)
                if len(found) + len(found.faults) != len(batch.piece):
                    return "fault rows do not add up"
                [batch.piece.raw(fault.record) for fault in found.faults]
                rows += len(batch.piece)
    except (Unreadable, MemoryError) as exc:
        return f"refused {type(exc).__name__}"
    except Exception as exc:  # noqa: BLE001 - that is what is looked for
        # Python's own imports say it this way when this process is at its limit.
        return f"refused {exc!r}" if getattr(exc, "errno", None) == errno.ENOMEM else f"fault {exc!r}"
    return f"read {rows}"


def main() -> None:
    count, seed, first, report = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    files = list(mutants(parquet_files(), count, seed))
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open_sandbox(), report.open("a") as lines:
        for number, data in enumerate(files):
            if number >= first:
                lines.write(f"{number} ")
                lines.flush()
                lines.write(verdict(data).replace("\n", " ") + "\n")
                lines.flush()
