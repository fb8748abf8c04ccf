"""A sleeper wakes only where it is. Where it would wait for who is busy there, and not for the last time, it starts
anew elsewhere, if that pays (`policy.victims: cost`). Pure.

Models that live on one device and do not fit beside each other take turns. Each turn one of them waits until the other
has gone, and who is asked for meanwhile waits for its coming back. A start elsewhere costs more than one such turn, and
less than all those to come.
"""

from collections.abc import Iterable

from vllama.domain.demand import lately
from vllama.domain.observed import Asleep, DeviceKey, EngineObservation
from vllama.domain.spec import ModelSpec, SleepLevel, VictimPolicy
from vllama.planner.draft import Draft
from vllama.planner.ledger import Ledger
from vllama.planner.placement import Offer, best_offer
from vllama.planner.room import is_at_hand, refuses
from vllama.planner.timing import sleep_takes, wake_takes
from vllama.planner.victims import back_s, known_s
from vllama.planner.wanted import Wanted

PAYS_WITHIN_S = 600.0  # what a start must have saved by then; so nobody who has just started moves
_AT_ONCE_S = 1.0


def better_elsewhere(
    draft: Draft, want: Wanted, spec: ModelSpec, engine: EngineObservation, here: Offer
) -> Offer | None:
    """Where it is to start anew instead of waiting for the busy victims of `here`; None: it stays.

    Nobody has to stop there. Busy ones may be in its way there as well once it would drain those who are `here`.
    """
    view, ledger = draft.view, draft.ledger
    if view.policy.victims is not VictimPolicy.COST or not here.busy:
        return None
    if view.demand(want.model).in_flight or view.siblings(want.model):
        return None
    if view.now < (settled_at := engine.started_at + PAYS_WITHIN_S):
        draft.look_again_at(settled_at)
        return None
    bound_s = view.policy.fairness_bound_s
    if is_late := view.now >= want.since + bound_s:
        waits_s = bound_s
    else:
        waits_s = 0.0
        draft.look_again_at(want.since + bound_s)
    there = best_offer(spec, ledger, draft.candidates)
    if there is None or set(there.keys) & set(here.keys) or view.loading(there.keys) or refuses(draft, want, there):
        return None
    stops = any(victim.level is SleepLevel.STOP for victim in there.victims)
    if stops or not (is_at_hand(ledger, there) or (is_late and there.busy)):
        return None
    saves = in_turns(ledger, engine, here.keys, waits_s) - in_turns(ledger, engine, there.keys, waits_s)
    return there if saves * PAYS_WITHIN_S > _start_costs_s(ledger, engine, there, waits_s) else None


def in_turns(ledger: Ledger, engine: EngineObservation, keys: Iterable[DeviceKey], waits_s: float) -> float:
    """Seconds of waiting per second that it and those who live on these devices cause each other.

    They take turns as often as the one is asked for that is so less often. A turn takes a sleep and a wake of both, and
    `waits_s` until requests have ended: so long one of them waits, and half of it, on average, who asks for the other.
    """
    view, own, total = ledger.view, pace(ledger, engine.model), 0.0
    for key in keys:
        others = [other for other in view.on(key) if other.model != engine.model]
        asleep = sum(ledger.asleep(other) for other in others)
        for other in others:
            if engine.memory_bytes + other.memory_bytes + asleep - ledger.asleep(other) <= ledger.capacity[key]:
                continue
            often, turn_s = pace(ledger, other.model), _turn_s(ledger, engine) + _turn_s(ledger, other) + waits_s
            total += min(own, often) * turn_s + own * often * turn_s**2 / 2
    return total


def pace(ledger: Ledger, model: str) -> float:
    """How often it is asked for, in 1/s, by its latest few requests; 0: not twice yet."""
    view = ledger.view
    asked = lately(view.demand(model), view.as_of)
    return len(asked) / (max(0.0, view.as_of - asked[0]) + _AT_ONCE_S) if len(asked) > 1 else 0.0


def _start_costs_s(ledger: Ledger, engine: EngineObservation, there: Offer, waits_s: float) -> float:
    """All waiting for the start, in seconds: of who waits, who comes meanwhile, and who would use what makes room."""
    start_s = back_s(ledger, engine, SleepLevel.STOP) + _wake_s(ledger, engine)
    own = ledger.view.demand(engine.model).waiting + pace(ledger, engine.model) * start_s / 2
    others = sum(pace(ledger, victim.candidate.engine.model) for victim in there.victims)
    return start_s * (own + others * (start_s / 2 + waits_s))


def _turn_s(ledger: Ledger, engine: EngineObservation) -> float:
    slept = known_s(sleep_takes(ledger.footprint(engine.model), _level(engine), len(engine.devices)))
    return slept + _wake_s(ledger, engine)


def _wake_s(ledger: Ledger, engine: EngineObservation) -> float:
    return known_s(wake_takes(ledger.footprint(engine.model), _level(engine), len(engine.devices)))


def _level(engine: EngineObservation) -> SleepLevel:
    return engine.state.level if isinstance(engine.state, Asleep) else SleepLevel.WEIGHTS_OFFLOADED
