from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from common.health import Check
from common.lifecycle import forever, in_background
from common.postgres import Pool, borrowed, open_postgres
from credits.batch import GroupCommit, open_group_commit
from credits.expiry import expire_holds, purge_old, watch_holds
from credits.ledger import Ledger, open_ledger
from credits.outbox import relay_outbox
from credits.reconcile import watch_books
from credits.settings import Settings

_CHECK_S = 2.0
_WATCH_S = 10.0
_KAFKA_PAUSE_S = 5.0


@dataclass(frozen=True)
class Credits:
    """What one credits process owns. `postgres` reads; whatever changes a balance goes through `commits`."""

    settings: Settings
    postgres: Pool
    commits: GroupCommit

    @property
    def checks(self) -> Mapping[str, Check]:
        return {"postgres": self._ask_postgres}

    async def _ask_postgres(self) -> None:
        async with borrowed(self.postgres, _CHECK_S) as connection:
            await connection.execute("SELECT FROM credits.accounts LIMIT 1")


@asynccontextmanager
async def open_credits(settings: Settings) -> AsyncIterator[Credits]:
    """Everything but the port. Kafka may be away: events wait in the outbox."""
    async with AsyncExitStack() as closing:
        postgres = await closing.enter_async_context(open_postgres(settings))
        ledger = await closing.enter_async_context(open_ledger(settings))
        commits = await closing.enter_async_context(open_group_commit(_group_commit(ledger, settings)))
        await closing.enter_async_context(in_background(*_loops(postgres, settings)))
        yield Credits(settings, postgres, commits)


def _group_commit(ledger: Ledger, settings: Settings) -> GroupCommit:
    return GroupCommit(
        ledger.apply,
        batch_max=settings.batch_operations_max,
        queue_max=settings.queue_operations_max,
        account_max=settings.account_operations_max,
        deadline_s=settings.operation_s,
    )


def _loops(postgres: Pool, settings: Settings) -> list[Coroutine[Any, Any, None]]:
    return [
        forever("expire holds", lambda: expire_holds(postgres, settings), pause_s=settings.expiry_pause_s),
        forever("watch holds", lambda: watch_holds(postgres, settings), pause_s=_WATCH_S),
        forever("purge", lambda: purge_old(postgres, settings), pause_s=settings.purge_pause_s),
        forever("reconcile", lambda: watch_books(postgres, settings), pause_s=settings.reconcile_pause_s),
        forever("relay events", lambda: relay_outbox(postgres, settings), pause_s=_KAFKA_PAUSE_S),
    ]
