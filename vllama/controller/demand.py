"""One model's line: who waits, how many are being served, when it was last used."""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from vllama.domain.demand import LATEST, Demand, KeepAlive
from vllama.planner.balance import replica_rank

if TYPE_CHECKING:
    from vllama.controller.servers.fleet import Use
    from vllama.controller.servers.server import Server

USUAL_SERVICE_S = 10.0  # as long as none was measured
NEW_COUNTS = 0.2  # of one request, in the mean of how long they take


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a ready engine answers, and the model name it answers to. `far`: an engine of ours, on another machine.

    `elsewhere`: somebody else's server. `api_key`: what servers and far engines want to see. Only servers have the
    rest: `base_path` stands before each path, without a slash at its end; `silence_s`: it may say nothing for so long.
    """

    engine_id: str
    host: str
    port: int
    served_name: str
    elsewhere: bool = False
    tls: bool = False
    base_path: str = ""
    api_key: str | None = field(default=None, repr=False)
    silence_s: float | None = None
    far: bool = False

    @property
    def authority(self) -> bytes:
        """For the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.tls and self.port == 443 else f"{host}:{self.port}").encode()

    @property
    def presented(self) -> bytes:
        """The value of the Host header, and behind it, where a key is wanted, the line that shows it."""
        if self.api_key is None:
            return self.authority
        return b"%b\r\nauthorization: Bearer %b" % (self.authority, self.api_key.encode())


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


class Found(enum.StrEnum):
    """How a request found its model."""

    HIT = "hit"  # ready, and nobody before it
    QUEUED = "queued"  # up, and it waited for its turn or for the door to open again
    WOKEN = "woken"  # asleep, and woken while it waited
    STARTED = "started"  # not there, or loading


class Grant(msgspec.Struct, eq=False, kw_only=True):  # one per request: three times as fast as a dataclass
    """The right to send one request to an engine. It counts as in flight until `release`, which may be called twice.

    `server`: somebody else's, where it goes there, which is told how it went, and its model's `use` there; `tries`:
    whether that server works again.
    """

    endpoint: Endpoint
    waited_s: float
    found: Found
    give_back: "Callable[[Grant], None] | None"  # None: it was released
    at: float = 0.0
    line: "Line | None" = None
    first: "Line | None" = None  # where its model's requests wait
    server: "Server | None" = None
    use: "Use | None" = None
    tries: bool = False

    def release(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back is not None:
            give_back(self)


@dataclass(slots=True, eq=False)
class Waiter:
    """`body_bytes`: what is held of it while it waits. `found`: as far as it knows by now."""

    since: float
    granted: asyncio.Future[Grant]
    keep_alive: KeepAlive | None = None
    body_bytes: int = 0
    found: Found = Found.QUEUED


@dataclass(slots=True, eq=False)
class Line:
    """All of it is touched from the event loop only, so every method is one atomic step.

    `left_at`: when the last who waited went away unserved. `keep_alive`: what a request said of this residency.
    `stand_in` waits for clients that were told to come back. `further` are the lines of the model's other replicas:
    of those nobody waits, as everybody waits here for any of them.
    """

    endpoint: Endpoint | None = None
    open: bool = False
    waiters: deque[Waiter] = field(default_factory=deque)
    in_flight: int = 0
    last_used_at: float | None = None
    max_concurrency: int | None = None
    closed_at: float | None = None
    drain_ended_at: float | None = None
    left_at: float | None = None
    keep_alive: KeepAlive | None = None
    stand_in: Waiter | None = None
    service_s: float | None = None  # mean of the latest requests
    further: "tuple[Line, ...]" = ()
    doubted_until: float = 0.0
    asked: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))  # when, the latest

    @property
    def can_grant(self) -> bool:
        return self.open and (self.max_concurrency is None or self.in_flight < self.max_concurrency)

    def least_loaded(self, now: float, *, besides: Collection[str] = ()) -> "Line | None":
        """The replica for the next request; None: none takes one now. `besides`: engine ids."""
        free = [
            line for line in (self, *self.further)
            if line.can_grant and line.endpoint is not None and line.endpoint.engine_id not in besides
        ]  # fmt: skip
        ranks = [replica_rank(in_flight=line.in_flight, doubted=line.doubted_until > now) for line in free]
        return free[ranks.index(min(ranks))] if free else None

    @property
    def is_up(self) -> bool:
        """Some replica takes requests, now or when others of them end."""
        return self.open or any(line.open for line in self.further)

    def queue_s(self) -> float:
        """How long, about, an arrival waits for its turn once the model is up."""
        if self.max_concurrency is None:
            return 0.0
        up = [line for line in (self, *self.further) if line.open] or [self]
        in_flight = sum(line.in_flight for line in up)
        turns = (in_flight + len(self.waiters)) // (self.max_concurrency * len(up))
        return turns * (USUAL_SERVICE_S if self.service_s is None else self.service_s)

    def demand(self) -> Demand:
        waiting = len(self.waiters)
        return Demand(
            waiting=waiting,
            expected=int(self.stand_in is not None and self.stand_in in self.waiters),
            oldest_waiting_at=self.waiters[0].since if waiting else None,
            in_flight=self.in_flight,
            last_used_at=self.last_used_at,
            admission_closed_at=self.closed_at,
            drain_ended_at=self.drain_ended_at,
            left_at=self.left_at,
            keep_alive=self.keep_alive,
            asked=tuple(self.asked),
        )
