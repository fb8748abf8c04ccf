"""Traces that nobody recorded: models of unequal popularity, called in bursts, more by day than by night.

The figures of `Habits` were fitted to published arrival statistics of a production LLM service (alibaba/ServeGen,
Apache-2.0: rates and variation of 60 clients over a week, in windows of ten minutes; one client is one model here).
"""

import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from vllama.replay.trace import Request, Trace

WINDOW_S = 600.0
DAY_S = 86400.0
_LEAST_CV, _MOST_CV = 0.5, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How models are called. Each model draws its own habits from these."""

    zipf: float = 1.4  # the n-th model is asked for 1 / n ** zipf as often as the first
    cv: float = 1.5  # of the times between two requests, of the median model; 1: at random, more: in bursts
    cv_spread: float = 0.65  # of its logarithm, between models
    daily: float = 0.5  # the swing of the daily rhythm, of the median model, as a share of its mean
    peak_hour: float = 15.5  # and so much between models:
    peak_spread_h: float = 4.0
    wander: float = 0.65  # of the logarithm of the rate, from one window to another
    wander_kept: float = 0.84  # of that, from one window to the next
    occasional: float = 0.5  # the share of models, but the first, that are not called for most of the time
    spell_s: float = 5200.0  # for so long, on average, an occasional model is called then
    busy_s: float = 5.0  # median time that a request keeps its model busy
    busy_spread: float = 1.0  # of its logarithm


HABITS = Habits()
PLAIN = Habits(cv=1, cv_spread=0, daily=0, wander=0, occasional=0)  # each model at random times, at its rate


def generate(
    models: Sequence[str], *, span_s: float, rate_per_s: float, seed: int, habits: Habits = HABITS
) -> Trace:  # fmt: skip
    """From midnight on; the first of `models` is the most popular one. `rate_per_s`: of all models, expected."""
    dice = random.Random(seed)  # noqa: S311  no secret
    shares = [1 / (rank + 1) ** habits.zipf for rank in range(len(models))]
    found: list[Request] = []
    for rank, (model, share) in enumerate(zip(models, shares, strict=True)):
        own = random.Random(dice.getrandbits(64))  # noqa: S311
        manner = habits if rank else replace(habits, occasional=0.0)
        rate = rate_per_s * share / sum(shares)
        found += _requests(model, _rates(rate, span_s, own, manner), span_s, own, manner)
    return Trace.of(found)


def round_robin(models: Sequence[str], *, requests: int, every_s: float, busy_s: float) -> Trace:
    """Each in turn. With one model more than fit, who was used least recently is always who is asked for next."""
    turns = (models[turn % len(models)] for turn in range(requests))
    return Trace(tuple(Request(turn * every_s, model, busy_s) for turn, model in enumerate(turns)))


def _rates(mean: float, span_s: float, dice: random.Random, habits: Habits) -> list[float]:
    """Requests per second, by window. The mean is that of a long time: a short trace may have more or less."""
    swing = min(0.95, habits.daily * dice.uniform(0.2, 1.8))
    peak_s = dice.gauss(habits.peak_hour, habits.peak_spread_h) * 3600
    calls = _spells(dice, habits)
    level, kept = dice.gauss(0, 1), habits.wander_kept
    found = []
    for window in range(math.ceil(span_s / WINDOW_S)):
        by_day = 1 + swing * math.cos(2 * math.pi * (window * WINDOW_S - peak_s) / DAY_S)
        wander = math.exp(habits.wander * level - habits.wander**2 / 2)
        found.append(mean * by_day * wander * next(calls))
        level = kept * level + math.sqrt(1 - kept**2) * dice.gauss(0, 1)
    return found


def _spells(dice: random.Random, habits: Habits) -> Iterator[float]:
    """What the rate of each window is multiplied by: 0 between the spells of an occasional model, 1 on average."""
    if dice.random() >= habits.occasional:
        while True:
            yield 1.0
    share = math.exp(dice.uniform(math.log(0.02), math.log(0.5)))  # of the time
    goes, comes = WINDOW_S / habits.spell_s, WINDOW_S / habits.spell_s * share / (1 - share)
    on = dice.random() < share
    while True:
        yield 1 / share if on else 0.0
        on = dice.random() >= goes if on else dice.random() < comes


def _requests(
    model: str, rates: Sequence[float], span_s: float, dice: random.Random, habits: Habits
) -> Iterator[Request]:
    """Gamma-distributed gaps of mean 1, on a clock that runs as fast as the rate says."""
    cv = min(_MOST_CV, max(_LEAST_CV, habits.cv * math.exp(dice.gauss(0, habits.cv_spread))))
    shape = 1 / cv**2
    until = [0.0, *accumulate(rate * WINDOW_S for rate in rates)]  # requests expected until the end of each window
    expected = dice.random() * dice.gammavariate(shape, 1 / shape)  # it was called before the trace begins
    while expected < until[-1]:
        window = max(1, bisect_left(until, expected))
        at_s = (window - 1 + (expected - until[window - 1]) / (until[window] - until[window - 1])) * WINDOW_S
        if at_s < span_s:
            busy_s = habits.busy_s * math.exp(habits.busy_spread * dice.gauss(0, 1))
            yield Request(round(at_s, 3), model, round(busy_s, 3))
        expected += dice.gammavariate(shape, 1 / shape)
