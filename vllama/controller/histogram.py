"""How often a number lay between which bounds: what Prometheus makes quantiles of."""

from bisect import bisect_left
from collections.abc import Iterable


class Histogram:
    """`counts` are per bucket, not cumulative: one up to each bound, it included, and one for what is above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        """`bounds`: ascending."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> "Histogram":
        """For whoever reads it on another thread."""
        twin = Histogram(self.bounds)
        twin.counts, twin.sum = self.counts[:], self.sum
        return twin
