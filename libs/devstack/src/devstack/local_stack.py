"""Where the stack of this folder is and which keys open it, for commands that were told nothing else."""

import os
from pathlib import Path

from bigdata_client.command.target import LocalStack
from devstack import state
from devstack.ports import HOST
from devstack.process import StackError

HOME = "BIGDATA_HOME"
FOLDER = Path(".bigdata")
COMPOSE_FOLDER = Path(".bigdata-compose")


def find() -> LocalStack | None:
    """None when no gateway was ever started here, or its state cannot be read: another address may be given."""
    folder = COMPOSE_FOLDER if os.environ.get("STACK") == state.COMPOSE else FOLDER
    try:
        known = state.load(Path(os.environ.get(HOME) or folder).expanduser().resolve())
    except (StackError, OSError):
        return None
    if known is None or not _had_gateway(known):
        return None
    return LocalStack(f"http://{HOST}:{known.ports['gateway']}", known.user_key, known.secrets.admin_key)


def _had_gateway(known: state.State) -> bool:
    return known.user_key is not None if known.kafka == state.COMPOSE else "gateway" in known.processes
