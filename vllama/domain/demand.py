"""Why a model is wanted now, and what an operator asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vllama.domain.spec import SleepLevel

LATEST = 4  # requests by which it is told how often a model is asked for
_AT_ONCE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """What a request said of the time after it: its model rests `idle_s` after its last use; None: never by time."""

    idle_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What clients want of one model. Times are seconds of the monotonic clock.

    `waiting` requests queue since `oldest_waiting_at`; `in_flight` counts to the last byte;
    `expected` of those are none yet, but clients that were told when to come back;
    `last_used_at` is the end (or, failing that, the start) of the latest use.
    `admission_closed_at`: since when arrivals queue although the engine is awake (a drain); None: open.
    `drain_ended_at`: when a drain was last given up; it earns the model a rest from the next one.
    `left_at`: when the last of those who waited went away unserved.
    `keep_alive`: what a request said, in place of the model's `sleep_after` until it rests; None: none said anything.
    `asked`: when the `LATEST` requests came to be served, the oldest first; (): none is known of.
    """

    waiting: int = 0
    expected: int = 0
    oldest_waiting_at: float | None = None
    in_flight: int = 0
    last_used_at: float | None = None
    admission_closed_at: float | None = None
    drain_ended_at: float | None = None
    left_at: float | None = None
    keep_alive: KeepAlive | None = None
    asked: tuple[float, ...] = ()


NO_DEMAND = Demand()


def lately(demand: Demand, at: float) -> tuple[float, ...]:
    """When the latest `LATEST` requests came, the oldest first. Those who wait have asked, too: evenly since the oldest
    of them came, as nobody knows better.
    """
    since, waiting = demand.oldest_waiting_at, demand.waiting
    if since is None or not waiting:
        return demand.asked
    every_s = max(0.0, at - since) / waiting
    latest = (since + every_s * i for i in range(max(0, waiting - LATEST), waiting))
    return (*demand.asked, *latest)[-LATEST:]


def rate_of(asked: Sequence[float], at: float) -> float:
    """How often it is asked for, in 1/s: between what the latest request says, and what the latest few say.

    The geometric mean of n / (time since the n-th last), for one and for all of them. The one knows that somebody has
    just begun to use it, the others that it is used every day. While nothing comes it falls as 1/t.
    """
    if not asked:
        return 0.0
    latest_s, all_s = (max(0.0, at - since) + _AT_ONCE_S for since in (asked[-1], asked[0]))
    return math.sqrt(len(asked) / (latest_s * all_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class WantReady:
    """`vllama start`/`wake-up`, or `auto_start` at boot: one request at that moment."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WantAsleep:
    """`vllama sleep`: at this level (None: auto), until the next request or `start`."""

    at: float
    level: SleepLevel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantStopped:
    """`vllama stop`: until the next request or `start`; a pinned model stays stopped until `start`."""

    at: float


Override = WantReady | WantAsleep | WantStopped
