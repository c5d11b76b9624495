"""Where the stack of this folder is and which keys open it, for commands that were told nothing else."""

import os
from pathlib import Path

from bigdata_client.command.target import LocalStack
from devstack import state
from devstack.ports import HOST
from devstack.process import StackError

HOME = "BIGDATA_HOME"
FOLDER = Path(".bigdata")


def find() -> LocalStack | None:
    """None when no gateway was ever started here, or its state cannot be read: another address may be given."""
    try:
        known = state.load(Path(os.environ.get(HOME) or FOLDER).expanduser().resolve())
    except (StackError, OSError):
        return None
    if known is None or "gateway" not in known.processes:
        return None
    return LocalStack(f"http://{HOST}:{known.ports['gateway']}", known.user_key, known.secrets.admin_key)
