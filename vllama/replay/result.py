"""What a replay found: who waited how long, and what was moved for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Of one model. `waits_s`: one per request that was served."""

    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    starts: int = 0
    wakes: int = 0
    sleeps: int = 0
    stops: int = 0
    moved_bytes: int = 0

    @property
    def swaps(self) -> int:
        """How often it was brought in."""
        return self.starts + self.wakes


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`models`: by model. `waits_s`: in the order of the trace, in seconds; NaN: never served.

    `refused`: told that they can never be served. `unserved`: nobody ever served them, which should not be.
    `plans`: how often the planner was asked. `ended_s`: when the last request ended, counted from the first arrival.
    """

    models: Mapping[str, Tally]
    waits_s: Sequence[float]
    refused: int
    unserved: int
    plans: int
    ended_s: float

    @property
    def served(self) -> int:
        return sum(len(tally.waits_s) for tally in self.models.values())

    @property
    def waiting_s(self) -> float:
        """Of all requests together: from arrival until a model that is ready takes it."""
        return sum(sum(tally.waits_s) for tally in self.models.values())

    @property
    def mean_s(self) -> float:
        return self.waiting_s / self.served if self.served else 0.0

    @property
    def longest_s(self) -> float:
        return max((max(tally.waits_s) for tally in self.models.values() if tally.waits_s), default=0.0)

    def quantile_s(self, share: float) -> float:
        """The wait that `share` of all requests do not exceed."""
        return quantile([wait for tally in self.models.values() for wait in tally.waits_s], share)

    def total(self, what: str) -> int:
        """Of all models: `starts`, `wakes`, `sleeps`, `stops`, `swaps`, `moved_bytes`."""
        return sum(getattr(tally, what) for tally in self.models.values())


def quantile(values: Sequence[float], share: float) -> float:
    """One of `values`: the smallest that `share` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000) * len(ordered) // 1000) - 1))] if ordered else 0.0
