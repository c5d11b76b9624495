"""Whether a consumer is alive: its records move, or none wait.

Being connected says nothing: a consumer can stay up and stuck after its brokers restarted (aiokafka#1154).
"""

from aiokafka import AIOKafkaConsumer

from common.clock import Clock
from common.metrics import gauge

_lag = gauge("bigdata_consumer_lag", "Records that wait in the partitions this process has", "topic", "partition")


class Stalled(Exception):
    """Records wait and none was handled for too long; only a restart helps."""


class Progress:
    """Call `moved` for each batch that was fetched and `look` every few seconds; ask `check` for /healthz."""

    def __init__(self, clock: Clock, stalled_s: float) -> None:
        self._clock = clock
        self._stalled_s = stalled_s
        self._last = clock.monotonic()

    def moved(self) -> None:
        self._last = self._clock.monotonic()

    async def look(self, consumer: AIOKafkaConsumer) -> None:
        """Compare positions with the ends that the broker names now; what the consumer remembers may be stale."""
        assigned = consumer.assignment()
        ends = await consumer.end_offsets(assigned) if assigned else {}
        waiting = 0
        for place, end in ends.items():
            behind = max(0, end - await consumer.position(place))
            _lag.labels(place.topic, place.partition).set(behind)
            waiting += behind
        if not waiting:
            self.moved()

    async def check(self) -> None:
        silent_s = self._clock.monotonic() - self._last
        if silent_s > self._stalled_s:
            raise Stalled(f"no record moved for {silent_s:.0f} s")
