"""One model's line in virtual time: the counters that the gateway keeps for the planner."""

from collections import deque
from dataclasses import dataclass, field

from vllama.domain.demand import LATEST, Demand


@dataclass(slots=True)
class Line:
    """Of one replica; all requests of a model wait in its first one's. `waiters`: (index in the trace, arrival).

    Times are seconds of the virtual clock.
    """

    model: str
    max_concurrency: int | None = None
    further: "tuple[Line, ...]" = ()
    open: bool = False
    waiters: deque[tuple[int, float]] = field(default_factory=deque)
    in_flight: int = 0
    last_used_at: float | None = None
    closed_at: float | None = None
    drain_ended_at: float | None = None
    asked: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))  # when, the latest

    @property
    def can_grant(self) -> bool:
        return self.open and (self.max_concurrency is None or self.in_flight < self.max_concurrency)

    def least_loaded(self) -> "Line | None":
        """The replica for the next request; None: none takes one now."""
        if not self.further:
            return self if self.can_grant else None
        free = [line for line in (self, *self.further) if line.can_grant]
        return min(free, key=lambda line: line.in_flight) if free else None

    def take(self, now: float) -> None:
        self.last_used_at = now
        self.in_flight += 1

    def give_back(self, now: float) -> None:
        self.last_used_at = now
        self.in_flight -= 1

    def drain(self, now: float) -> bool:
        """Whether that is new."""
        if not self.open:
            return False
        self.open, self.closed_at = False, now
        return True

    def let_in(self, now: float) -> bool:
        """Whether that is new."""
        if self.open:
            return False
        if self.closed_at is not None:
            self.closed_at, self.drain_ended_at = None, now
        self.open = True
        return True

    def close(self) -> None:
        self.open, self.closed_at = False, None

    def demand(self) -> Demand:
        waiting = len(self.waiters)
        return Demand(
            waiting=waiting,
            oldest_waiting_at=self.waiters[0][1] if waiting else None,
            in_flight=self.in_flight,
            last_used_at=self.last_used_at,
            admission_closed_at=self.closed_at,
            drain_ended_at=self.drain_ended_at,
            asked=tuple(self.asked),
        )
