"""Why a model is wanted now, and what an operator asked for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vllama.domain.spec import SleepLevel

RATE_TAU_S = 1800.0  # a request of so long ago counts a third (1/e) of one now


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """What a request said of the time after it: its model rests `idle_s` after its last use; None: never by time."""

    idle_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What clients want of one model. Times are seconds of the monotonic clock.

    `waiting` requests queue since `oldest_waiting_at`; `in_flight` counts to the last byte;
    `last_used_at` is the end (or, failing that, the start) of the latest use.
    `admission_closed_at`: since when arrivals queue although the engine is awake (a drain); None: open.
    `drain_ended_at`: when a drain was last given up; it earns the model a rest from the next one.
    `left_at`: when the last of those who waited went away unserved.
    `keep_alive`: what a request said, in place of the model's `sleep_after` until it rests; None: none said anything.
    `asked`: the requests until `asked_at`, the older the less each counts (`RATE_TAU_S`); None: none is known of.
    """

    waiting: int = 0
    oldest_waiting_at: float | None = None
    in_flight: int = 0
    last_used_at: float | None = None
    admission_closed_at: float | None = None
    drain_ended_at: float | None = None
    left_at: float | None = None
    keep_alive: KeepAlive | None = None
    asked: float = 0.0
    asked_at: float | None = None


NO_DEMAND = Demand()


def asked_by(asked: float, asked_at: float | None, at: float) -> float:
    """What of a count of requests is left at `at`. Divided by RATE_TAU_S it is their rate, in 1/s.

    All counts shrink by the same factor with time, so that time alone never changes which of them is the larger.
    """
    return 0.0 if asked_at is None else asked * math.exp((asked_at - at) / RATE_TAU_S)


def most_asked(each: Sequence[Demand]) -> Demand:
    """Whose count is the largest."""
    at = max((one.asked_at for one in each if one.asked_at is not None), default=0.0)
    return max(each, key=lambda one: (asked_by(one.asked, one.asked_at, at), one.asked_at or 0.0))


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
