"""What a broker acknowledged and does not have: nobody behind it could have written that.

The local broker loses what it acknowledges while it is being stopped. It is counted, and no fault of ours; on Apache
Kafka it fails a run.
"""

from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from common.topics import AUDIT_REQUESTS, INGEST_RECORDS
from devstack.stack import Stack
from soak.load import Account
from support.topic_contents import values_of
from support.uploads import select

_BY_RUN = "SELECT source, count() FROM bigdata.people FINAL WHERE startsWith(source, 'run-') GROUP BY source"
_NOT_LOGGED = """
    SELECT id::text FROM unnest($1::uuid[]) AS id
     WHERE NOT EXISTS (SELECT FROM audit.request_log WHERE event_id = id)
"""
_CHARGED_NOT_LOGGED = """
    SELECT hold_id::text FROM credits.holds
     WHERE captured > 0 AND NOT EXISTS (SELECT FROM audit.request_log l WHERE l.hold_id = holds.hold_id)
"""


@dataclass(frozen=True)
class Run:
    """Records sent in one go of which some are not shown, and how many the topic still has."""

    name: str
    sent: int
    missing: int
    in_topic: int

    @property
    def lost_by_broker(self) -> int:
        return min(self.missing, max(0, self.sent - self.in_topic))

    def __str__(self) -> str:
        return f"{self.missing} not shown, {self.in_topic} in the topic"


async def runs_missing(stack: Stack, account: Account) -> list[Run]:
    shown = {str(source): int(count) for source, count in select(stack, _BY_RUN)}
    values = [one.value or b"" for one in await values_of(stack, INGEST_RECORDS)]
    return [
        Run(name, sent, sent - found, sum(name.encode() in value for value in values))
        for name, sent in account.records.items()
        if (found := shown.get(f"run-{name}", 0)) < sent
    ]


@dataclass(frozen=True)
class Entries:
    """Of the log, and of those the ones that a charge belongs to."""

    requests: int = 0
    charges: int = 0


async def entries_lost(stack: Stack, request_ids: Collection[str]) -> Entries:
    """Neither in the log nor in its topic."""
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        requests = [id_ for (id_,) in await connection.fetch(_NOT_LOGGED, list(request_ids))]
        charges = [id_ for (id_,) in await connection.fetch(_CHARGED_NOT_LOGGED)]
    finally:
        await connection.close()
    if not requests and not charges:
        return Entries()
    topic = b"\n".join(one.value or b"" for one in await values_of(stack, AUDIT_REQUESTS))
    return Entries(_absent(requests, topic), _absent(charges, topic))


def _absent(ids: Collection[str], text: bytes) -> int:
    return sum(id_.encode() not in text for id_ in ids)
