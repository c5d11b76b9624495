"""Log lines as a process writes them."""

import json
import subprocess
import sys
from typing import Any

import pytest

_PROGRAM = """
import json, logging, sys
from common.logs import configure_logs, get_logger
configure_logs("test", "INFO")
text = json.loads(sys.argv[1])
get_logger("a").info("upload", filename=text, **{text: 1})
logging.getLogger("b").warning("asked for %s", text)
try:
    raise ValueError(text)
except ValueError:
    get_logger("a").exception("failed")
"""


def lines(text: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(text)], capture_output=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stderr.split(b"\n") if line]


@pytest.mark.parametrize("text", ['a\r\n{"event": "forged"}', "\x1b[31mred\x1b[0m\u2028\u202e\x00", "half \ud800"])
def test_whatever_a_client_wrote_is_one_line_of_json(text: str) -> None:
    written = lines(text)
    assert len(written) == 3
    assert [one["event"] for one in written if one["event"] != f"asked for {text}"] == ["upload", "failed"]
