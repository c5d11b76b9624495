"""Whether a consumer is alive: its records move, or none wait.

Being connected says nothing: a consumer can stay up and stuck after its brokers restarted (aiokafka#1154).
"""

from aiokafka import AIOKafkaConsumer

from common.clock import Clock
from common.metrics import gauge

_lag = gauge("bigdata_consumer_lag", "Records that wait in the partitions this process has", "topic", "partition")
_behind = gauge(
    "bigdata_consumer_behind_seconds", "Age of the record that is handled now, while others wait; else 0", "topic"
)


class Stalled(Exception):
    """Records wait and none was handled for too long; only a restart helps."""


class Progress:
    """Call `moved` for each batch that was fetched and `look` every few seconds; ask `check` for /healthz."""

    def __init__(self, clock: Clock, stalled_s: float) -> None:
        self._clock = clock
        self._stalled_s = stalled_s
        self._last = clock.monotonic()
        self._sent_ms: int | None = None

    def moved(self, sent_ms: int | None = None) -> None:
        """`sent_ms`: when the record that is handled now was sent, by its own timestamp."""
        self._last = self._clock.monotonic()
        if sent_ms is not None:
            self._sent_ms = sent_ms

    async def look(self, consumer: AIOKafkaConsumer) -> None:
        """Compare positions with the ends that the broker names now; what the consumer remembers may be stale."""
        assigned = consumer.assignment()
        ends = await consumer.end_offsets(assigned) if assigned else {}
        waiting = 0
        for place, end in ends.items():
            behind = max(0, end - await consumer.position(place))
            _lag.labels(place.topic, place.partition).set(behind)
            waiting += behind
        for topic in {place.topic for place in ends}:
            _behind.labels(topic).set(self._behind_s() if waiting else 0)
        if not waiting:
            self.moved()

    def _behind_s(self) -> float:
        """What waits is younger than what is handled: this is the most that it can be behind."""
        if self._sent_ms is None:
            return self._clock.monotonic() - self._last
        return max(0.0, self._clock.now().timestamp() - self._sent_ms / 1000)

    async def check(self) -> None:
        silent_s = self._clock.monotonic() - self._last
        if silent_s > self._stalled_s:
            raise Stalled(f"no record moved for {silent_s:.0f} s")
