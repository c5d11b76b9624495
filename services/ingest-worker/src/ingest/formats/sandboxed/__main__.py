"""The child process that takes apart what could be hostile: archives, XML, Parquet.

It has no file, no network and no credentials: all it can reach is its parent, over pipes. The modules of this package
import little, for every file starts a process. `python -m ingest.formats.sandboxed JOB`; sandbox.py starts it.
"""

import importlib
import json
import resource
import sys

from ingest.formats.sandboxed.pipes import Given, Job, Output, Refusal
from ingest.without_pandas import hide_pandas


def main() -> None:
    job = json.loads(sys.argv[1])
    output = Output(sys.stdout.buffer, job["output_bytes_max"])
    given = Given(sys.stdin.buffer, sys.stdout.buffer, job["size"])
    hide_pandas()
    module, _, name = job["job"].partition(":")
    run: Job = getattr(importlib.import_module(module), name)
    _limit(job["memory_bytes_max"])
    try:
        try:
            run(given, output, job["values"])
        except Refusal as exc:
            output.refused(str(exc))
        except MemoryError:
            output.refused(f"reading it takes more than {job['memory_bytes_max'] >> 20} MiB of memory")
        output.end()
    except BrokenPipeError:
        # The parent has seen enough. Nothing may be flushed to it at exit.
        sys.stdout = None


def _limit(memory_bytes: int) -> None:
    """Allocations beyond it fail; no file can be written, no core be dumped."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
