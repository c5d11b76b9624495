"""The log, its rollups and its place in the topic, straight from the stores."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import asyncpg
from aiokafka import ConsumerRecord

from common.topics import AUDIT_DEAD
from devstack.stack import Stack
from support.offsets import committed_past_effect
from support.polling import until
from support.topic_contents import values_of

GROUP = "audit-logger"
_LOGGED = "SELECT count(*) FROM audit.request_log WHERE event_id = ANY($1::uuid[])"
# Rollups hold what the log holds: everything of a day that is wholly there.
_DRIFT = """
    SELECT count(*) FROM (
        SELECT coalesce(user_id, '00000000-0000-0000-0000-000000000000') AS user_id,
               (created_at AT TIME ZONE 'UTC')::date AS day, endpoint, count(*) AS requests,
               count(*) FILTER (WHERE status >= 400) AS errors, sum(rows) AS rows, sum(credits_used_mc) AS credits_mc
          FROM audit.request_log WHERE endpoint = ANY($1) GROUP BY 1, 2, 3) AS log
      FULL JOIN (SELECT * FROM audit.daily_usage WHERE endpoint = ANY($1)) AS kept USING (user_id, day, endpoint)
     WHERE (log.requests, log.errors, log.rows, log.credits_mc)
           IS DISTINCT FROM (kept.requests, kept.errors, kept.rows, kept.credits_used_mc)
"""


@asynccontextmanager
async def open_log(stack: Stack) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(str(stack.status().postgres))
    try:
        yield connection
    finally:
        await connection.close()


async def all_logged_once(stack: Stack, request_ids: Collection[str], *, deadline_s: float = 60) -> None:
    """Waits for them; then there is one row of each, and the rollups of their routes say what the log says."""
    wanted = sorted(set(request_ids))
    async with open_log(stack) as log:

        async def there() -> bool:
            return bool(await log.fetchval(_LOGGED, wanted) >= len(wanted))

        await until(f"{len(wanted)} requests in the log", there, deadline_s=deadline_s)
        assert await log.fetchval(_LOGGED, wanted) == len(wanted)
        routes = await log.fetch(
            "SELECT DISTINCT endpoint FROM audit.request_log WHERE event_id = ANY($1::uuid[])", wanted
        )

        async def agree() -> bool:
            # Others' requests of the same routes arrive meanwhile: one look sees one moment of both.
            return not await log.fetchval(_DRIFT, [row["endpoint"] for row in routes])

        await until("the rollups to be the sums of the log", agree, deadline_s=20)


async def nothing_is_committed_that_is_not_written(stack: Stack) -> None:
    """I5: no partition's committed offset is past what the log has."""
    ahead = await committed_past_effect(stack, [GROUP])
    assert not ahead, f"I5: {ahead}"


async def dead_letters(stack: Stack) -> list[ConsumerRecord]:
    return await values_of(stack, AUDIT_DEAD)
