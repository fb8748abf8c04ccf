"""One model's line: who waits, how many are being served, when it was last used."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from vllama.domain.demand import Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a ready engine answers, and the model name it answers to."""

    engine_id: str
    host: str
    port: int
    served_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why waiting was in vain: an HTTP status, a machine-readable code, a sentence, seconds until another try."""

    status: int
    code: str
    message: str
    retry_after_s: float | None = None


class WaitFailed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(slots=True, eq=False)
class Grant:
    """The right to send one request to an engine. It counts as in flight until `release`, which may be called twice."""

    endpoint: Endpoint
    waited_s: float
    _release: Callable[[], None]
    _held: bool = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._release()


@dataclass(slots=True, eq=False)
class Waiter:
    since: float
    granted: asyncio.Future[Grant]


@dataclass(slots=True, eq=False)
class Line:
    """All of it is touched from the event loop only, so every method is one atomic step."""

    endpoint: Endpoint | None = None
    open: bool = False
    waiters: deque[Waiter] = field(default_factory=deque)
    in_flight: int = 0
    last_used_at: float | None = None
    max_concurrency: int | None = None
    closed_at: float | None = None
    drain_ended_at: float | None = None

    @property
    def can_grant(self) -> bool:
        return self.open and (self.max_concurrency is None or self.in_flight < self.max_concurrency)

    def demand(self) -> Demand:
        waiting = len(self.waiters)
        return Demand(
            waiting=waiting,
            oldest_waiting_at=self.waiters[0].since if waiting else None,
            in_flight=self.in_flight,
            last_used_at=self.last_used_at,
            admission_closed_at=self.closed_at,
            drain_ended_at=self.drain_ended_at,
        )
