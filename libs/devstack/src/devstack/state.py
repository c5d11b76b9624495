"""stack.json: what a stack must remember between two commands, readable by its owner only."""

import asyncio
import fcntl
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devstack.process import Record, StackError

STATE_FILE = "stack.json"
ROLES = ("gateway", "credits", "ingest", "audit")
# A State's `kafka` when the folder is that of an installation of docker compose; the engine knows its processes.
COMPOSE = "compose"
_VERSION = 1
_LOCK_S = 60.0
_POLL_S = 0.05


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass
class Secrets:
    """Made once per data folder, because the databases remember them too."""

    postgres: dict[str, str] = field(
        default_factory=lambda: {role: _secret() for role in ("postgres", *ROLES, *(f"{role}_owner" for role in ROLES))}
    )
    clickhouse: dict[str, str] = field(
        default_factory=lambda: {user: _secret() for user in ("gateway", "ingest", "admin")}
    )
    redis: str = field(default_factory=_secret)
    credits_token: str = field(default_factory=_secret)
    signing_key: str = field(default_factory=_secret)
    admin_key: str = field(default_factory=lambda: f"bd_{_secret()}")


@dataclass
class State:
    secrets: Secrets = field(default_factory=Secrets)
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Record] = field(default_factory=dict)
    user_key: str | None = None
    # Which broker: `local`, `apache`, `apache3`, or COMPOSE. It stays what it was at the first start: its data is here.
    kafka: str | None = None
    # What the last `up` was to start: a part that never came so far has no process to be found dead.
    wanted: list[str] = field(default_factory=list)


def load(folder: Path) -> State | None:
    """None when no stack was ever started in this folder."""
    path = folder / STATE_FILE
    try:
        document = json.loads(path.read_bytes())
        if document.pop("version") != _VERSION:
            raise StackError(f"{path} was written by another version of this command")
        return _from_json(document)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise StackError(f"{path} belongs to another user: run this command as its owner") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise StackError(f"{path} is damaged ({type(exc).__name__}: {exc})") from exc


def save(folder: Path, state: State) -> None:
    path = folder / STATE_FILE
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"version": _VERSION, **asdict(state)}, file, indent=2)
    fresh.replace(path)  # readers take no lock: they see the old document or the new one, never half of one


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[None]:
    """One command at a time changes a stack. Waits a minute for the other one, then raises StackError."""
    with (folder / ".lock").open("w") as file:
        give_up = time.monotonic() + _LOCK_S
        while not _try_lock(file.fileno()):
            if time.monotonic() > give_up:
                raise StackError(f"another bigdata command has been working in {folder} for a minute")
            await asyncio.sleep(_POLL_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _from_json(document: dict[str, Any]) -> State:
    return State(
        **{
            **document,
            "secrets": Secrets(**document["secrets"]),
            "processes": {name: Record(**record) for name, record in document["processes"].items()},
        }
    )
