"""Who is missed least: what each engine's going costs, by the policy that models.yaml names. Pure.

`lru`: when the engine was used last. `cost`: the waiting that is to be expected of its going, in seconds per second:
how often its model is asked for, times how long it takes to bring it back. How often, that is as of the last moment at
which anything was asked for (`as_of`): time alone changes nothing about who goes.
"""

from collections.abc import Iterable

from vllama.domain.demand import lately, rate_of
from vllama.domain.observed import Asleep, EngineObservation
from vllama.domain.spec import SleepLevel, VictimPolicy
from vllama.domain.units import format_bytes, format_duration
from vllama.planner.ledger import Ledger
from vllama.planner.timing import CHANGE_S, START_S, Span, start_takes, wake_takes
from vllama.planner.view import View

Missed = dict[SleepLevel, float]  # what its going costs, by the level that it goes to


def missed(view: View, ledger: Ledger, engine: EngineObservation, levels: Iterable[SleepLevel]) -> Missed:
    """By level that it may go to, stop included. Only those of one plan compare."""
    every = (*levels, SleepLevel.STOP)
    if view.policy.victims is VictimPolicy.LRU:
        return dict.fromkeys(every, view.last_used(engine))
    often = asked_per_s(view, engine, view.as_of)
    return {level: often * back_s(ledger, engine, level) for level in every}


def together(policy: VictimPolicy, each: Iterable[float]) -> float:
    """Of several that go: as lately as the latest was used, or what all of them cost."""
    return max(each, default=float("-inf")) if policy is VictimPolicy.LRU else sum(each)


def copy_rank(view: View, ledger: Ledger, sleeper: EngineObservation) -> tuple[float, float, str]:
    """Who of those that keep a copy in host memory gives it up first."""
    cost = missed(view, ledger, sleeper, ())[SleepLevel.STOP]
    if view.policy.victims is VictimPolicy.COST:
        cost /= max(1, sleeper.host_copy_bytes)
    return cost, view.last_used(sleeper), sleeper.engine_id


def back_s(ledger: Ledger, engine: EngineObservation, level: SleepLevel) -> float:
    """How much longer its model takes to be ready again, in seconds, than if the engine stays as it is."""
    footprint, devices = ledger.footprint(engine.model), len(engine.keys)
    if level is not SleepLevel.STOP:
        return known_s(wake_takes(footprint, level, devices))
    start_s = known_s(start_takes(footprint), START_S)
    if not isinstance(engine.state, Asleep):
        return start_s
    return max(CHANGE_S, start_s - known_s(wake_takes(footprint, engine.state.level, devices)))


def why_missed_least(view: View, ledger: Ledger, engine: EngineObservation, level: SleepLevel, frees: int) -> str:
    """The numbers of the choice, in words; "": it was its turn by when it was used last."""
    if view.policy.victims is VictimPolicy.LRU:
        return ""
    per_minute = 60.0 * asked_per_s(view, engine, view.now)
    back = format_duration(back_s(ledger, engine, level))
    return f", asked for {per_minute:.2g} times a minute, back in {back} for {format_bytes(frees)}: missed least"


def asked_per_s(view: View, engine: EngineObservation, at: float) -> float:
    """Of who was not asked for since anybody counts, its last use, or its start, counts as one request."""
    return rate_of(lately(view.demand(engine.model), at) or (view.last_used(engine),), at)


def known_s(span: Span, otherwise_s: float = CHANGE_S) -> float:
    return otherwise_s if span.unknown else span.seconds
