"""The days of the log: partitions are made ahead of time, on demand for late events, and dropped when they are old."""

from collections.abc import Iterable
from datetime import UTC, date, timedelta

from audit.settings import Settings
from common.clock import Clock
from common.logs import get_logger
from common.postgres import Pool

_ENSURE = "SELECT audit.ensure_day($1)"
_DROP = "SELECT audit.drop_days_before($1)"

_log = get_logger(__name__)


class Days:
    """Remembers which days are known to have a partition, so that a batch asks Postgres only for a new one."""

    def __init__(self, postgres: Pool, clock: Clock, settings: Settings) -> None:
        self._postgres = postgres
        self._clock = clock
        self._ahead = settings.audit_days_ahead
        self._keep = settings.audit_retention_days
        self._known: set[date] = set()

    async def ensure(self, days: Iterable[date]) -> None:
        """Runs outside the batch's transaction: two late days must not wait for one another's locks."""
        for day in sorted(set(days) - self._known):
            if await self._postgres.fetchval(_ENSURE, day):
                _log.info("day added to the log", day=day.isoformat())
            self._known.add(day)

    def forget(self) -> None:
        """Somebody dropped a partition that was believed to be there."""
        self._known.clear()

    async def keep_house(self) -> None:
        """Make yesterday to some days ahead, then drop what is older than the log keeps."""
        today = self._clock.now().astimezone(UTC).date()
        await self.ensure(today + timedelta(days=n) for n in range(-1, self._ahead + 1))
        for row in await self._postgres.fetch(_DROP, today - timedelta(days=self._keep)):
            day: date = row[0]
            self._known.discard(day)
            _log.info("day dropped from the log", day=day.isoformat())
