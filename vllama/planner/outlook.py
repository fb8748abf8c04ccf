"""When a model will be ready, as far as measurements and the plan can tell: what waiting clients are told. Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from vllama.domain.action import Start, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, EngineObservation, Footprint, Loading, Operation, Snapshot, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.planner.backoff import retry_at
from vllama.planner.timing import CHANGE_S, START_S, STOP_S, sleep_takes, start_takes, wake_takes
from vllama.planner.view import View
from vllama.planner.wanted import wanted_models

OVERDUE = 0.1  # what takes longer than it should is taken to need this much of it still
LEAST_S = 0.5
_USUAL_LEVEL = SleepLevel.WEIGHTS_OFFLOADED


class Doing(enum.StrEnum):
    """What goes on for it, before its name: `loading org/model`."""

    LOADING = "loading"
    WAKING = "waking"
    MAKING_ROOM = "making room for"
    QUEUEING = "queueing for"
    PAUSING = "pausing after a failure of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`ready_in_s` is an estimate. `why` is what the plan says. `refused`: it will not be, and who waits is told so."""

    doing: Doing
    ready_in_s: float
    why: str = ""
    refused: bool = False


UNTOLD = Outlook(doing=Doing.LOADING, ready_in_s=START_S)


def outlook(desired: DesiredState, snapshot: Snapshot, made: Plan, model: str, now: float) -> Outlook:
    """`made` is the plan of these two states."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    decisions = {decision.model: decision for decision in made.decisions}
    return _Forecast(view, decisions).of(spoken_for(view, decisions, model))


def outlooks(desired: DesiredState, snapshot: Snapshot, made: Plan, now: float) -> dict[str, Outlook]:
    """Of every model that comes up or is waited for. `made` may be a little older than these two states."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    decisions = {decision.model: decision for decision in made.decisions}
    loads = {engine.model for engine in snapshot.engines if isinstance(engine.state, Loading)}
    rising = {op.model for op in snapshot.operations if op.verb in {Verb.START, Verb.WAKE}}
    waited = {model for model, demand in desired.demand.items() if demand.waiting}
    models = (loads | rising | waited) & desired.models.keys() & decisions.keys()
    whole = {model for model in models if all(name in decisions for name in view.siblings(model))}
    return {model: _Forecast(view, decisions).of(spoken_for(view, decisions, model)) for model in sorted(whole)}


def spoken_for(view: View, decisions: Mapping[str, Decision], model: str) -> str:
    """Of a model's replicas the one that is on its way for those who wait; else the lead."""
    rising = (name for name in view.siblings(model) if isinstance(decisions[name].action, Start | Wake))
    lead = view.lead(model)
    acts = isinstance(decisions[lead].action, Start | Wake) if lead in decisions else True
    return lead if acts else next(iter(sorted(rising)), lead)


def rests_in_s(desired: DesiredState, snapshot: Snapshot, now: float) -> float | None:
    """In how many seconds the first engine that is awake rests by itself, should nobody call it; None: not by time."""
    view = View(desired=desired, snapshot=snapshot, now=now)
    found = [_rests_at(view, engine) for engine in view.seen if isinstance(engine.state, Awake)]
    return min((max(0.0, at - now) for at in found if at is not None), default=None)


def _rests_at(view: View, engine: EngineObservation) -> float | None:
    spec, demand = view.spec(engine.model), view.demand(engine.model)
    if spec is None or view.pinned(engine.model):
        return None
    after_s = spec.idle.sleep_after_s if demand.keep_alive is None else demand.keep_alive.idle_s
    if after_s is None:
        return None
    return after_s + (view.now if demand.in_flight or demand.waiting else view.last_used(engine))


class _Forecast:
    def __init__(self, view: View, decisions: Mapping[str, Decision]) -> None:
        self._view, self._decisions, self._seen = view, decisions, set[str]()

    def of(self, model: str) -> Outlook:
        self._seen.add(model)
        view, decision = self._view, self._decisions.get(model)
        doing, own_s = self._comes_up(model)
        why = "" if decision is None else decision.message
        crashes = view.snapshot.crashes.get(model)
        if decision is None:
            return Outlook(doing=doing, ready_in_s=own_s)
        if decision.reason is Reason.BACKING_OFF and crashes is not None:
            pause_s = max(0.0, retry_at(crashes) - view.now)
            return Outlook(doing=Doing.PAUSING, ready_in_s=pause_s + own_s, why=why)
        if view.demand(model).admission_closed_at is not None:
            return Outlook(doing=Doing.QUEUEING, ready_in_s=self._comes_back_in_s(model), why=why)
        others = [self._goes(other) for other in decision.waits_for if other not in self._seen]
        if not others:
            return Outlook(doing=doing, ready_in_s=own_s, why=why, refused=decision.refused)
        # those that leave one device for it go one after the other; of any others it waits for the last
        before_s = sum(others) if decision.reason is Reason.MAKING_ROOM else max(others)
        if decision.reason is Reason.NO_IDLE_VICTIM:
            before_s += self._fair_in_s(model)
        return Outlook(doing=Doing.MAKING_ROOM, ready_in_s=before_s + own_s, why=why, refused=decision.refused)

    def _comes_back_in_s(self, model: str) -> float:
        """It is drained: it goes for those who wait for it, they come up, and it waits for its turn."""
        waiters = [d.model for d in self._decisions.values() if model in d.waits_for and d.model not in self._seen]
        others_s = max((self._comes_up(waiter)[1] for waiter in waiters), default=0.0)
        wake_s = self._wake_s(model, self._view.engine(model))
        return self._sleep_s(model) + others_s + self._view.policy.fairness_bound_s + wake_s

    def _comes_up(self, model: str) -> tuple[Doing, float]:
        """On its own, as if its room were free."""
        view, operation, engine = self._view, self._view.operations.get(model), self._view.engine(model)
        if operation is not None and operation.verb is Verb.WAKE:
            return Doing.WAKING, self._left_s(self._wake_s(model, engine), operation)
        if operation is not None and operation.verb is not Verb.START:  # it goes down first
            slept = operation.verb is Verb.SLEEP
            then_s = self._wake_s(model, engine) if slept else self._load_s(model)
            return Doing.QUEUEING, self._goes(model) + then_s
        match None if engine is None else engine.state:
            case Loading() if engine is not None:
                return Doing.LOADING, _left_of(self._load_s(model), view.now - engine.started_at)
            case Asleep():
                return Doing.WAKING, self._wake_s(model, engine)
            case Awake():
                return Doing.QUEUEING, LEAST_S
            case _:
                return Doing.LOADING, self._load_s(model)

    def _goes(self, model: str) -> float:
        """Until it has left the devices, or no longer keeps others from them."""
        operation, engine = self._view.operations.get(model), self._view.engine(model)
        if operation is not None and operation.verb in (Verb.SLEEP, Verb.STOP):
            whole_s = self._sleep_s(model) if operation.verb is Verb.SLEEP else STOP_S
            return self._left_s(whole_s, operation)
        if operation is not None or (engine is not None and isinstance(engine.state, Loading)):
            return self._comes_up(model)[1]
        if engine is not None and isinstance(engine.state, Awake):
            return self._sleep_s(model)
        if self._view.demand(model).waiting:  # it was asked for before: it comes up first, and then leaves again
            return self.of(model).ready_in_s + self._sleep_s(model)
        return STOP_S

    def _fair_in_s(self, model: str) -> float:
        """Until busy engines may be drained for it."""
        since = next((want.since for want in wanted_models(self._view) if want.model == model), self._view.now)
        return max(0.0, since + self._view.policy.fairness_bound_s - self._view.now)

    def _left_s(self, whole_s: float, operation: Operation) -> float:
        return _left_of(whole_s, self._view.now - operation.started_at)

    def _footprint(self, model: str) -> Footprint | None:
        return self._view.snapshot.footprints.get(model)

    def _load_s(self, model: str) -> float:
        return start_takes(self._footprint(model)).seconds or START_S

    def _wake_s(self, model: str, engine: EngineObservation | None) -> float:
        devices = 1 if engine is None else len(engine.keys)
        level = engine.state.level if engine is not None and isinstance(engine.state, Asleep) else _USUAL_LEVEL
        return wake_takes(self._footprint(model), level, devices).seconds or CHANGE_S

    def _sleep_s(self, model: str) -> float:
        engine = self._view.engine(model)
        devices = 1 if engine is None else len(engine.keys)
        return sleep_takes(self._footprint(model), _USUAL_LEVEL, devices).seconds or CHANGE_S


def _left_of(whole_s: float, elapsed_s: float) -> float:
    return max(whole_s - elapsed_s, OVERDUE * whole_s, LEAST_S)
