import subprocess
import sys
import time

_PROGRAM = """
import asyncio
from contextlib import asynccontextmanager
from common.lifecycle import run, until_stopped

@asynccontextmanager
async def opened():
    print("open", flush=True)
    try:
        yield
    finally:
        print("closed", flush=True)

async def main():
    async with opened():
        {body}

run(main())
"""


def _sigterm_while(body: str) -> tuple[int, str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    time.sleep(0.2)  # into the body; too early only means the earlier of the two handlers is tested twice
    child.terminate()
    rest, _ = child.communicate(timeout=20)
    return child.returncode, rest.splitlines()[-1]


def test_sigterm_while_serving_closes_what_is_open() -> None:
    assert _sigterm_while("await until_stopped()") == (0, "closed")


def test_sigterm_while_still_opening_closes_what_is_open() -> None:
    assert _sigterm_while("await asyncio.sleep(60)") == (0, "closed")
