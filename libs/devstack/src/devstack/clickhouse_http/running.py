"""Which queries are running, and how to stop them.

The engine chooses its own query ids, so every request carries a tag of its own in query_cache_tag, and the query
id its client chose in log_comment. Stopping means KILL QUERY for that tag, and only ever for reads: an insert that
is killed answers success with part of its rows.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from devstack.clickhouse_http.engine import Engine, quote, run
from devstack.clickhouse_http.refusals import EngineError
from devstack.clickhouse_http.request import Call

DRAIN_LOOK_S: Final = 0.1

_KILL_BY_ID: Final = re.compile(
    rb"\s*KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*(?:'([^'\\]+)'|\{(\w+):\s*String\})\s*(?:A?SYNC)?\s*(?:FORMAT\s+\w+)?\s*;?\s*",
    re.IGNORECASE,
)


@dataclass(eq=False)
class Running:
    call: Call
    cancelled: threading.Event = field(default_factory=threading.Event)
    may_stop: bool = False


class RunningQueries:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._by_tag: dict[str, Running] = {}

    def enter(self, call: Call) -> Running:
        running = Running(call)
        with self._lock:
            self._by_tag[call.tag] = running
        return running

    def leave(self, running: Running) -> None:
        with self._lock:
            self._by_tag.pop(running.call.tag, None)

    def stop(self, running: Running) -> None:
        """Ask once; a query that had not yet reached the engine sees `cancelled` and does not start."""
        running.cancelled.set()
        if not running.may_stop:
            return
        try:
            with self._engine.connect("admin", "default") as connection:
                run(connection, f"KILL QUERY WHERE Settings['query_cache_tag'] = {quote(running.call.tag)} ASYNC")
        except EngineError:
            # It ended between the look and the kill.
            return

    def drain(self) -> None:
        """Stop reads, and wait for inserts as long as they take, until nothing runs."""
        while left := self._snapshot():
            for running in left:
                self.stop(running)
            time.sleep(DRAIN_LOOK_S)

    def _snapshot(self) -> list[Running]:
        with self._lock:
            return list(self._by_tag.values())

    def kill_by_id(self, call: Call, sql: bytes) -> list[tuple[str, str, str]] | None:
        """`KILL QUERY WHERE query_id = …` for the caller's own queries (admin: anybody's), None for other text.

        Rows are (kill_status, query_id, user), as ClickHouse's own answer begins.
        """
        found = _KILL_BY_ID.fullmatch(sql)
        if found is None:
            return None
        literal, parameter = found.groups()
        wanted = literal.decode() if literal else call.params.get(parameter.decode(), "")
        stopped: list[tuple[str, str, str]] = []
        for running in self._snapshot():
            theirs = running.call
            if theirs.query_id == wanted and theirs.tag != call.tag and call.user in {theirs.user, "admin"}:
                self.stop(running)
                stopped.append(("waiting" if running.may_stop else "cant_cancel", wanted, theirs.user))
        return stopped
