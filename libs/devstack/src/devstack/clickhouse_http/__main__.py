"""`python -m devstack.clickhouse_http --folder PATH [--host 127.0.0.1] [--port 8123]`.

Passwords come from CLICKHOUSE_GATEWAY_PASSWORD, CLICKHOUSE_INGEST_PASSWORD and CLICKHOUSE_ADMIN_PASSWORD.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from devstack.clickhouse_http.server import CannotStart, Settings, serve
from devstack.clickhouse_http.users import USER_NAMES, Passwords


def main() -> int:
    parser = argparse.ArgumentParser("devstack.clickhouse_http", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the data lives; one process per folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Cutting an answer off is how errors in mid-stream are shown; uvicorn would log each with a stack.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        serve(Settings(arguments.folder, arguments.host, arguments.port, _passwords()))
    except CannotStart as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


def _passwords() -> Passwords:
    by_user = {}
    for user in USER_NAMES:
        name = f"CLICKHOUSE_{user.upper()}_PASSWORD"
        if not (password := os.environ.get(name)):
            raise CannotStart(f"{name} is not set")
        by_user[user] = password
    return Passwords(by_user)


sys.exit(main())
