"""From a batch of records to the log: what is readable is written, what is not is a dead letter, all else waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from aiokafka import ConsumerRecord

from audit.entries import Entry, Window, read_entry
from audit.request_log import Place, RequestLog
from audit.settings import Settings
from common.clock import Clock
from common.errors import Permanent
from common.faultpoints import faultpoint
from common.kafka import next_offsets
from common.metrics import counter

Bury = Callable[[ConsumerRecord, str], Awaitable[None]]
_Read = tuple[ConsumerRecord, Entry]
_Poison = tuple[ConsumerRecord, str]
_WRITTEN_AT_ONCE = 5000
# Between two looks at what Postgres has sent meanwhile: about 2 ms.
_READ_AT_ONCE = 200

_rows = counter("bigdata_audit_rows_total", "Audit events, by whether the log had them already", "outcome")


class AuditTrail:
    def __init__(self, log: RequestLog, bury: Bury, clock: Clock, settings: Settings) -> None:
        self._log = log
        self._bury = bury
        self._clock = clock
        self._settings = settings
        self._keeping = asyncio.Lock()

    async def keep(self, records: Sequence[ConsumerRecord]) -> None:
        """When it returns, every record is in the log or in the dead letters. Raises Transient: try all again.

        One batch after the other: two at once would wait for one another at the rollups of the same users.
        """
        async with self._keeping:
            await self._keep(records)

    async def _keep(self, records: Sequence[ConsumerRecord]) -> None:
        faultpoint("audit.fetched")
        poison: list[_Poison] = []
        writing: asyncio.Task[list[_Poison]] | None = None
        try:
            for piece in _pieces(records):
                # While Postgres commits the piece before, this one is read.
                good, bad = await self._read(piece)
                poison += bad + (await writing if writing else [])
                writing = asyncio.create_task(self._write(good, _places(piece)))
            poison += await writing if writing else []
        finally:
            if writing is not None and not writing.done():
                writing.cancel()
                await asyncio.wait({writing})
        # After the log: a batch that is tried again because of the log repeats no dead letter.
        await asyncio.gather(*(self._bury(record, reason) for record, reason in poison))
        if poison:
            faultpoint("audit.buried")

    async def _read(self, records: Sequence[ConsumerRecord]) -> tuple[list[_Read], list[_Poison]]:
        window = Window.around(
            self._clock.now(),
            retention_days=self._settings.audit_retention_days,
            future_max_s=self._settings.audit_future_max_s,
        )
        good: list[_Read] = []
        poison: list[_Poison] = []
        for number, record in enumerate(records):
            if not number % _READ_AT_ONCE:
                await asyncio.sleep(0)
            try:
                good.append((record, read_entry(record.value, window)))
            except Permanent as exc:
                poison.append((record, str(exc)))
        return good, poison

    async def _write(self, read: Sequence[_Read], next_offsets: dict[Place, int]) -> list[_Poison]:
        """One entry that Postgres refuses must not take its batch along: halves are tried until it stands alone."""
        try:
            written = await self._log.write([entry for _, entry in read], next_offsets)
        except Permanent as exc:
            if len(read) == 1:
                await self._log.write([], next_offsets)
                return [(read[0][0], str(exc))]
            middle = len(read) // 2
            return [*await self._write(read[:middle], {}), *await self._write(read[middle:], next_offsets)]
        _rows.labels("written").inc(written.new)
        _rows.labels("repeated").inc(written.repeated)
        return []


def _pieces(records: Sequence[ConsumerRecord]) -> Iterator[Sequence[ConsumerRecord]]:
    """Each becomes one transaction."""
    for start in range(0, len(records), _WRITTEN_AT_ONCE):
        yield records[start : start + _WRITTEN_AT_ONCE]


def _places(records: Sequence[ConsumerRecord]) -> dict[Place, int]:
    return {Place(*place): offset for place, offset in next_offsets(records).items()}
