"""Reads one file as planner and loaders would, in a process of its own, and says what came of it and what it took.

`python -m support.alone read_alone FILE NAME [SIZE]`; with SIZE, the last byte repeats until the file is as large.
"""

import json
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

from common.errors import Permanent
from ingest.cutting import cuts
from ingest.examine import Said, examined
from ingest.formats.sandbox import Limits
from ingest.reading import Reading
from ingest.rows import rows_of
from support.ingest_parts import dataset


@dataclass(frozen=True)
class Drawn:
    """An object that is larger than any file that a test should make."""

    data: bytes
    size: int

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        piece = self.data[offset : offset + size]
        return piece + self.data[-1:] * (size - len(piece))


def main() -> None:
    path, name, *size = sys.argv[1:]
    data = Path(path).read_bytes()
    stored = Drawn(data, int(size[0]) if size else len(data))
    target, limits = dataset(), Limits()
    counts = {"accepted": 0, "rejected": 0}
    error = None
    try:
        layout = examined(stored, target, limits, Said(name))
        for chunk in cuts(layout, stored, 32 << 20):
            for batch in Reading(layout, chunk, stored, target, limits).batches():
                rows = rows_of(batch, target)
                counts["accepted"] += len(rows)
                counts["rejected"] += len(rows.faults)
    except Permanent as exc:
        error = str(exc)
    taken = {
        "own_mib": _own_peak_mib(),
        "child_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }
    sys.stdout.write(json.dumps(counts | taken | {"error": error}))


def _own_peak_mib() -> int:
    """Of this program alone: what getrusage says includes the process that started it, up to the moment of exec."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
