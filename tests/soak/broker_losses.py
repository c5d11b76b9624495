"""What is missing at the end: whether the topic still has it.

A record was acknowledged before it counts as sent, so one that is not in its topic was lost by the broker: the local
one does that while it is being stopped, and it is no fault of ours. On Apache Kafka it fails a run.
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


async def entries_not_in_topic(stack: Stack, request_ids: Collection[str]) -> int:
    """Neither in the log nor in its topic. Whether the broker lost them or never had them, this cannot tell."""
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        requests = [id_ for (id_,) in await connection.fetch(_NOT_LOGGED, list(request_ids))]
    finally:
        await connection.close()
    if not requests:
        return 0
    topic = b"\n".join(one.value or b"" for one in await values_of(stack, AUDIT_REQUESTS))
    return sum(id_.encode() not in topic for id_ in requests)
