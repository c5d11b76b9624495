"""docs/command-line.md, recorded: `python -m devstack.command_line_page > docs/command-line.md`.

Every line is run on a stack of its own, in a folder that is deleted afterwards. Keys and passwords are not shown.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from bigdata_client.command.outcome import Exit
from devstack.command_line_session import SESSION, Step

_STEP_S = 300
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECRETS = (
    (re.compile(r"bd_[0-9a-f]{8}_[\w-]{20,}"), "bd_1a2b3c4d_…"),
    (re.compile(r"bd_[\w-]{30,}"), "bd_…"),
    (re.compile(r"\b([\w-]{12})[\w-]{80,}"), r"\1…"),  # cursors and quotes
    (re.compile(r"(?<=://)(\w*):[^:@/\s]+@"), r"\1:…@"),
)
_EXITS: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.FAILED: "it was done, and what came out is bad: a failed load, a dead part, books that drift",
    Exit.USAGE: "the command line itself is wrong, or a file that it names",
    Exit.ABSENT: "there is nothing to talk to: no stack, no answer",
    Exit.REFUSED: "the gateway refused: key, rights, an object that is not there, a request that is not valid",
    Exit.NO_CREDITS: "not enough credits",
    Exit.TRY_LATER: "rate limit, outage or time limit: the same command may work in a while",
    Exit.REJECTS: "loaded, but some rows were rejected",
    Exit.INTERRUPTED: "interrupted",
}
_HEAD = """# The command line

Recorded from really running it: `make docs-command-line`. A test knows that every command is here.

```
$ bigdata --help
{help}```

`bigdata COMMAND --help` says more of each. `bigdata --install-completion` teaches the shell to complete commands and
options.

## Which gateway, which key

The first of these that says something:

1. `--url` and `--key`
2. `--profile NAME`
3. `BIGDATA_URL`, `BIGDATA_API_KEY`, and `BIGDATA_ADMIN_KEY` for what only admins may
4. `BIGDATA_PROFILE`, or the current profile of `~/.config/bigdata/config.yaml` (another file: `BIGDATA_CONFIG`)
5. the local stack in `.bigdata` or `BIGDATA_HOME`: its demo user's key, and its admin's for admin commands

A key that was found with one address is never sent to another.

## What programs may rely on

`--json` prints one JSON document on stdout (one a line where it goes on: `--tail`) and nothing else there; messages go
to stderr. Lists are arrays, times ISO 8601, amounts credits. The exit codes:

| code | meaning |
|---|---|
{exits}"""


def page() -> str:
    exits = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in _EXITS.items())
    with tempfile.TemporaryDirectory(prefix="bigdata-page-") as folder:
        home = Path(folder)
        os.chmod(home, 0o755)  # noqa: PTH101, S103 - PostgreSQL's own user has to pass through it
        shutil.copytree(Path("configs"), home / "configs")
        try:
            return _HEAD.format(help=_help(home), exits=exits) + "".join(_sections(home))
        finally:
            _run("bigdata down --purge", home, {})


def _sections(home: Path) -> Iterator[str]:
    kept: dict[str, str] = {}
    for section in SESSION:
        yield f"\n## {section.title}\n\n" + (f"{section.says}\n\n" if section.says else "") + "```\n"
        for step in section.steps:
            sys.stderr.write(f"{step.line}\n")
            shown, code = _run(step.line, home, kept)
            if step.keep and (found := _ID.search(shown)):
                kept[step.keep] = found[0]
            yield f"$ {step.line}\n" + _cut(_public(shown, home), step) + (f"[exit code {code}]\n" if code else "")
        yield "```\n"


def _run(line: str, home: Path, kept: Mapping[str, str]) -> tuple[str, int]:
    here = str(Path(sys.executable).parent)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BIGDATA_")},
        **kept,
        "PATH": f"{here}:{os.environ['PATH']}",
        "BIGDATA_CONFIG": str(home / "config.yaml"),
        "COLUMNS": "110",
        "LANG": "C.UTF-8",
    }
    program = ["bash", "-c", line]
    ran = subprocess.run(  # noqa: S603 - lines of ours
        program,
        cwd=home,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_STEP_S,
        check=False,
    )
    return ran.stdout, ran.returncode


def _help(home: Path) -> str:
    shown, _ = _run("bigdata --help", home, {})
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines() if line.strip())


def _public(text: str, home: Path) -> str:
    text = text.replace(str(home), "~/demo")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _cut(text: str, step: Step) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    shown = lines[: step.lines_max]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} more lines")
    return "".join(f"{line}\n" for line in shown)


if __name__ == "__main__":
    sys.stdout.write(page())
