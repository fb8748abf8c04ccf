"""Which of a model's servers, or of its replicas here, gets the next request. Pure."""

from collections.abc import Iterable

import msgspec


class Candidate(msgspec.Struct, frozen=True, kw_only=True):  # one per server and request: a dataclass is slower
    """A server that has the model and is well. `capacity`: so many requests of ours at a time.

    What it said of itself is as old as its last /metrics; `in_flight_then` is how many of ours it had at that moment,
    so that they are not counted twice and those sent since then are not missed.
    """

    server: str
    capacity: int
    in_flight: int
    running: int = 0
    waiting: int = 0
    in_flight_then: int = 0
    last_chosen_at: float = 0.0


def score(candidate: Candidate) -> float:
    """How full it is: 0 idle, 1 at its capacity. Who waits there counts half, as it loads nothing yet."""
    others = max(0.0, candidate.running + 0.5 * candidate.waiting - candidate.in_flight_then)
    return (others + candidate.in_flight) / candidate.capacity


def choose(candidates: Iterable[Candidate]) -> str | None:
    """The least loaded, so that any below half of its capacity goes before all others; in turn where they are alike.

    None: each has as many requests of ours as it takes. What others send there only orders them: a server that they
    keep busy is still a server, and vLLM queues better than a stranger who sees it a second late.
    """
    free = [candidate for candidate in candidates if candidate.in_flight < candidate.capacity]
    if not free:
        return None
    return min(free, key=lambda one: (score(one), one.last_chosen_at, one.server)).server


def replica_rank(*, in_flight: int, doubted: bool) -> tuple[bool, int]:
    """Of replicas that take a request the lowest gets it; between equals the first.

    All have the same capacity and are called by nobody else, so the fewest requests of ours are the lowest load. One
    that lost a connection a moment ago (`doubted`) has the fewest, and is chosen only where there is no other.
    """
    return doubted, in_flight
