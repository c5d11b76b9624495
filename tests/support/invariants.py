"""The invariants of the system, each a query whose answer must be 0. Checked after every journey and every fault.

They look at the stores as an operator with every privilege would, and trust no view or figure of a service.
"""

import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import clickhouse_connect
import yaml
from clickhouse_connect.driver.client import Client

from common.datasets import load_datasets
from devstack.stack import Stack
from support.polling import until
from support.repository import ROOT

# I1: the ledger adds up, and nothing is negative.
_LEDGER = {
    "I1 accounts whose balance is not the sum of their entries": """
        SELECT count(*) FROM credits.accounts a
         WHERE posted <> (SELECT coalesce(sum(amount), 0) FROM credits.entries e WHERE e.user_id = a.user_id)
    """,
    "I1 accounts whose held is not the sum of their open holds": """
        SELECT count(*) FROM credits.accounts a
         WHERE held <> (SELECT coalesce(sum(amount), 0) FROM credits.holds h
                         WHERE h.user_id = a.user_id AND h.state = 'open')
    """,
    "I1 accounts below zero": "SELECT count(*) FROM credits.accounts WHERE posted < 0 OR held < 0 OR posted < held",
    # I2: one key is charged once.
    "I2 keys captured more than once": """
        SELECT count(*) FROM (
            SELECT 1 FROM credits.holds WHERE state = 'captured' AND idempotency_key IS NOT NULL
             GROUP BY user_id, idempotency_key HAVING count(*) > 1) twice
    """,
    "I2 holds charged more than once": """
        SELECT count(*) FROM (
            SELECT 1 FROM credits.entries WHERE kind = 'capture' GROUP BY hold_id HAVING count(*) > 1) twice
    """,
    # I6: what a receipt says is what was charged, and a failure cost nothing.
    "I6 receipts whose charge is not the ledger's": """
        SELECT count(*) FROM credits.receipts r JOIN credits.holds h USING (hold_id)
         WHERE r.state <> h.state OR r.credits_used <> h.captured OR (r.state = 'released' AND r.credits_used <> 0)
            OR r.credits_used <> coalesce((SELECT -sum(amount) FROM credits.entries e
                                            WHERE e.hold_id = r.hold_id AND e.kind = 'capture'), 0)
    """,
    # I4, the half that needs no list of answered requests: one row per request, and the charge it names was made.
    "I4 requests in the log more than once": """
        SELECT count(*) FROM (SELECT 1 FROM audit.request_log GROUP BY event_id HAVING count(*) > 1) twice
    """,
    "I4 charges in the log that the ledger does not have": """
        SELECT count(*) FROM audit.request_log l
         WHERE credits_used_mc > 0
           AND NOT EXISTS (SELECT FROM credits.holds h WHERE h.hold_id = l.hold_id AND h.captured = l.credits_used_mc)
    """,
    # I3: every row of a file is accounted for.
    "I3 finished uploads whose rows are not accepted + rejected": """
        SELECT count(*) FROM ingest.uploads
         WHERE state IN ('completed', 'completed_with_rejects') AND duplicate_of IS NULL
           AND rows_total <> rows_accepted + rows_rejected
    """,
}
# I7, as a bound over the log: how often the limit somebody may be admitted within a minute. Once by Redis, once more by
# a Redis that was lost in between, and once by each of two gateways when Redis is too slow to decide. That one Redis
# alone admits exactly the limit is counted request by request in contracts/test_rate_limit.py.
_LIMITS_MAX = 4
_ADMITTED = """
    SELECT user_id, key_id, date_trunc('minute', created_at) AS minute, count(*) AS requests
      FROM audit.request_log WHERE key_id IS NOT NULL AND status NOT IN (401, 429) GROUP BY 1, 2, 3
"""
_KEYS_OVER_LIMIT = f"""
    SELECT count(*) FROM ({_ADMITTED}) AS a JOIN gateway.api_keys AS k ON k.id = a.key_id
     WHERE a.requests > {_LIMITS_MAX} * k.requests_per_minute
"""  # noqa: S608 - pieces from this file
_USERS_OVER_PLAN = f"""
    SELECT count(*) FROM (SELECT user_id, minute, sum(requests) AS requests FROM ({_ADMITTED}) AS a GROUP BY 1, 2) AS u
      JOIN gateway.users ON users.id = u.user_id
      JOIN unnest($1::text[], $2::bigint[]) AS plans (name, requests_per_minute) ON plans.name = users.plan
     WHERE u.requests > {_LIMITS_MAX} * plans.requests_per_minute
"""  # noqa: S608 - pieces from this file
_OPEN_HOLDS = "SELECT count(*) FROM credits.holds WHERE state = 'open'"
_LOGGED = "SELECT count(*) FROM audit.request_log WHERE event_id = ANY($1::uuid[])"


async def broken_invariants(stack: Stack, answered: Collection[str] = ()) -> dict[str, int]:
    """What does not hold, by name; empty is well. Waits first until the gateway's spool has been sent."""
    async with _postgres(stack) as postgres:
        figures = {}
        missing = await _requests_missing(postgres, answered)
        figures["I4 answered requests that are not in the log"] = missing
        figures["holds nobody settled"] = await _unsettled(postgres)
        for name, query in _LEDGER.items():
            figures[name] = int(await postgres.fetchval(query))
        figures["I7 minutes in which a key was admitted too often"] = await postgres.fetchval(_KEYS_OVER_LIMIT)
        figures["I7 minutes in which a user was admitted too often"] = await _users_over_plan(postgres)
    figures |= await _shown_wrongly(stack)
    return {name: figure for name, figure in figures.items() if figure}


async def _users_over_plan(postgres: "asyncpg.Connection[asyncpg.Record]") -> int:
    plans: dict[str, Any] = yaml.safe_load((ROOT / "configs/config.yaml").read_text())["gateway"]["plans"]
    limited = {name: plan["requests_per_minute"] for name, plan in plans.items() if "requests_per_minute" in plan}
    count: int = await postgres.fetchval(_USERS_OVER_PLAN, list(limited), list(limited.values()))
    return count


async def _requests_missing(postgres: "asyncpg.Connection[asyncpg.Record]", answered: Collection[str]) -> int:
    wanted = list(answered)

    async def all_logged() -> bool:
        return int(await postgres.fetchval(_LOGGED, wanted)) >= len(wanted)

    try:
        await until("the spool to be sent", all_logged, deadline_s=15)
    except AssertionError:
        return len(wanted) - int(await postgres.fetchval(_LOGGED, wanted))
    return 0


async def _unsettled(postgres: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Holds of killed gateways stay open until they expire; their test waits for that and then checks."""

    async def all_closed() -> bool:
        return not await postgres.fetchval(_OPEN_HOLDS)

    try:
        await until("every hold to be closed", all_closed, deadline_s=15)
    except AssertionError:
        return int(await postgres.fetchval(_OPEN_HOLDS))
    return 0


async def _shown_wrongly(stack: Stack) -> dict[str, int]:
    """A block that is being loaded is in the history a moment before it is in the current table."""

    async def none() -> bool:
        return not any(_identities(stack).values())

    with contextlib.suppress(AssertionError):
        await until("what is being loaded to be loaded", none, deadline_s=15, every_s=0.5)
    return _identities(stack)


def _identities(stack: Stack) -> dict[str, int]:
    client = clickhouse_admin(stack)
    try:
        return {
            f"I3 identities of {name} shown twice or not as their newest version": int(
                client.query(f"""
                    SELECT countIf(shown != 1 OR version != newest) FROM
                        (SELECT dedupe_key, count() AS shown, any(version) AS version
                           FROM bigdata.{name} FINAL GROUP BY dedupe_key) AS visible
                        FULL JOIN
                        (SELECT dedupe_key, max(version) AS newest FROM bigdata.{name}_history
                          GROUP BY dedupe_key) AS stored
                        USING dedupe_key
                """).result_rows[0][0]  # noqa: S608 - dataset names of our own declarations
            )
            for name in load_datasets(ROOT / "configs/datasets")
        }
    finally:
        client.close()


def clickhouse_admin(stack: Stack) -> Client:
    address = urlsplit(str(stack.status().to_json()["clickhouse"]))
    return clickhouse_connect.get_client(
        host=address.hostname or "", port=address.port or 0, username=address.username, password=address.password or ""
    )


@asynccontextmanager
async def _postgres(stack: Stack) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(str(stack.status().to_json()["postgres"]))
    try:
        yield connection
    finally:
        await connection.close()
