"""The spool of finished requests: what was answered, but not yet acknowledged by credits and Kafka.

An append is one write to a local file and no fsync: it survives the process, not the host. A lost host's holds
expire, and its clients have paid nothing.
"""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from common.clock import Clock
from common.credit_operations import Capture, Receipt, Release, StoredAnswer
from common.faultpoints import faultpoint
from common.logs import get_logger
from common.metrics import counter, gauge
from common.tracing import carried
from gateway.settings import Settings
from gateway.spool_records import RECORD_BYTES_MAX, encode
from gateway.spool_segments import OwnedFolder, Segment, Side

_log = get_logger(__name__)
_ALARM_EVERY_S = 5.0
_bytes = gauge("bigdata_spool_bytes", "Bytes of finished requests that credits or Kafka has not acknowledged")
_oldest = gauge("bigdata_spool_oldest_seconds", "Age of the oldest finished request that is not acknowledged")
_dropped = counter("bigdata_spool_dropped_total", "Finished requests that could not be spooled", "reason")


@dataclass(frozen=True, slots=True)
class Captured:
    """The request's charge. `amount_mc` at most what was held; the rest returns."""

    hold_id: UUID
    user_id: UUID
    amount_mc: int
    receipt: Receipt
    answer: StoredAnswer | None = None

    def operation(self) -> Capture:
        return Capture(
            user_id=self.user_id,
            hold_id=self.hold_id,
            amount_mc=self.amount_mc,
            receipt=self.receipt,
            answer=self.answer,
            traceparent=carried(),
        )


@dataclass(frozen=True, slots=True)
class Released:
    """The request cost nothing: all of its hold returns."""

    hold_id: UUID
    user_id: UUID
    reason: str
    receipt: Receipt | None = None

    def operation(self) -> Release:
        return Release(
            user_id=self.user_id,
            hold_id=self.hold_id,
            reason=self.reason[:200],
            receipt=self.receipt,
            traceparent=carried(),
        )


@dataclass
class _Holding:
    folder: OwnedFolder
    segments: list[Segment]


class Spool:
    """Appends never raise and never wait; who sends reads `unsent` and acknowledges."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._bytes_max = settings.spool_bytes_max
        self._segment_bytes_max = settings.spool_segment_bytes_max
        self._clock = clock
        folder = OwnedFolder.create(settings.spool_folder)
        self._active = folder.new_segment(1)
        self._rotations = 1
        self._own = _Holding(folder, [self._active])
        self._adopted: list[_Holding] = []
        self._parent = settings.spool_folder
        self._alarmed_at = -_ALARM_EVERY_S
        self.sent = asyncio.Event()
        self.appended: dict[Side, asyncio.Event] = {"settled": asyncio.Event(), "audited": asyncio.Event()}
        _bytes.set_function(lambda: self.pending_bytes)
        _oldest.set_function(self._oldest_age_s)

    def append(self, event: bytes, settlement: Captured | Released | None, user_id: UUID | None) -> bool:
        """Keep one finished request. False: it was dropped, counted and logged, and the request is answered anyway."""
        operation = settlement.operation().model_dump_json().encode() if settlement else b""
        record = encode(event, operation, user_id, self._clock.now().timestamp())
        if len(record) > RECORD_BYTES_MAX or self._bytes + len(record) > self._bytes_max:
            return self._drop("full", hold_id=settlement and str(settlement.hold_id))
        try:
            self._active.append(record)
        except OSError as exc:
            return self._drop("disk", hold_id=settlement and str(settlement.hold_id), fault=str(exc))
        faultpoint("gateway.spooled")
        self.sent.clear()
        for appended in self.appended.values():
            appended.set()
        if self._active.size >= self._segment_bytes_max:
            self._rotate()
        return True

    def unsent(self, side: Side) -> Segment | None:
        """The first segment that holds something this side has not acknowledged; adopted ones first."""
        for holding in (*self._adopted, self._own):
            for segment in holding.segments:
                if segment.acknowledged[side] < segment.size:
                    return segment
        return None

    def trim(self) -> None:
        """Remove what both sides have acknowledged; `sent` is set while nothing else is there."""
        for holding in (self._own, *self._adopted):
            done = [s for s in holding.segments if not s.pending_bytes and s is not self._active]
            for segment in done:
                holding.segments.remove(segment)
                segment.close(remove=True)
        for holding in [h for h in self._adopted if not h.segments]:
            self._adopted.remove(holding)
            holding.folder.close(remove=True)
        if not self.pending_bytes:
            self.sent.set()

    def adopt(self) -> int:
        """Take over the segments of processes that are gone; returns how many segments there were."""
        found = 0
        for folder in OwnedFolder.of_dead_processes(self._parent, self._held_paths()):
            holding = _Holding(folder, folder.segments())
            self._adopted.append(holding)
            found += len(holding.segments)
            _log.info("adopted a spool", folder=folder.path.name, bytes=sum(s.pending_bytes for s in holding.segments))
        if found:
            self.sent.clear()
            for appended in self.appended.values():
                appended.set()
        self.trim()
        return found

    @property
    def pending_bytes(self) -> int:
        return sum(s.pending_bytes for holding in (self._own, *self._adopted) for s in holding.segments)

    def close(self) -> None:
        """What is not acknowledged stays on disk, unlocked, for the next process."""
        for holding in (self._own, *self._adopted):
            for segment in holding.segments:
                segment.close(remove=not segment.pending_bytes)
            holding.folder.close(remove=not any(segment.pending_bytes for segment in holding.segments))

    @property
    def _bytes(self) -> int:
        return sum(segment.size for segment in self._own.segments)

    def _rotate(self) -> None:
        try:
            self._active = self._own.folder.new_segment(self._rotations + 1)
        except OSError as exc:  # stay with the old one: it only grows
            _log.error("cannot start a new spool segment", fault=str(exc))
            return
        self._rotations += 1
        self._own.segments.append(self._active)

    def _drop(self, reason: str, **what: object) -> bool:
        _dropped.labels(reason).inc()
        if self._clock.monotonic() - self._alarmed_at >= _ALARM_EVERY_S:
            self._alarmed_at = self._clock.monotonic()
            _log.error("finished requests are not spooled; their holds will expire unpaid", reason=reason, **what)
        return False

    def _held_paths(self) -> set[str]:
        return {holding.folder.path.name for holding in (self._own, *self._adopted)}

    def _oldest_age_s(self) -> float:
        times = [segment.oldest_at() for holding in (self._own, *self._adopted) for segment in holding.segments]
        known = [written_at for written_at in times if written_at is not None]
        return max(0.0, self._clock.now().timestamp() - min(known)) if known else 0.0
