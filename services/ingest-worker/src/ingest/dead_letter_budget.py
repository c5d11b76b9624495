"""How many records may go to the dead letters before somebody has to look: beyond it the consumer stops.

Without a budget a producer that changed its format would drain its whole topic into the dead letters.
"""

from collections.abc import Sequence

from common.metrics import gauge

# Seen records are forgotten by halves, so that a bad day of last month counts no more.
_REMEMBERED = 100_000

_spent = gauge("bigdata_dead_letter_budget_spent", "1: records are not consumed until the worker is restarted", "topic")


class DeadLetterBudget:
    """Spent when more than `count_max` of the records seen, and more than this share of them, were poison.

    A restart of the process gives a new one: that is how an operator says go on.
    """

    def __init__(self, topic: str, *, count_max: int, share_max: float) -> None:
        self._count_max, self._share_max = count_max, share_max
        self._seen = self._dead = 0
        self._gauge = _spent.labels(topic)
        self._gauge.set(0)
        self.spent = False

    def affords(self, count: int, poison: Sequence[int]) -> int:
        """Of `count` records those before the first one that would be too much; `poison`: ascending places."""
        for dead, place in enumerate(poison, self._dead + 1):
            if dead > self._count_max and dead > self._share_max * (self._seen + place + 1):
                return place
        return count

    def book(self, seen: int, dead: int) -> None:
        """After the dead letters are durable."""
        self._seen += seen
        self._dead += dead
        while self._seen > _REMEMBERED:
            self._seen //= 2
            self._dead //= 2

    def stop(self) -> None:
        self.spent = True
        self._gauge.set(1)
