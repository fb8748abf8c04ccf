"""What the loop has done since the start of the server, as sums: for /metrics. Only the event loop touches them.

All are by model: what replicas do is added up. Models are those of models.yaml, of the model cache and of engines that
were found, never what clients make up.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from vllama.controller.histogram import Histogram
from vllama.domain.action import Action
from vllama.domain.decision import Decision, Plan
from vllama.domain.observed import Operation, Verb
from vllama.domain.reason import Reason
from vllama.domain.status import Phase, phase_of

OPERATION_BOUNDS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
PLAN_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FOR_OTHERS = frozenset({Reason.EVICTED, Reason.HOST_MEMORY_SHORT})  # whose memory was needed
_GIVEN_UP = frozenset({
    Reason.NOT_WANTED, Reason.SLEEPING, Reason.HELD_BY_OPERATOR, Reason.REMOVED, Reason.CANNOT_FIT,
    Reason.NO_SUCH_DEVICE, Reason.NO_SUCH_NODE, Reason.WOULD_EVICT, Reason.ABANDONED, Reason.NODE_LOST,
})  # fmt: skip


class Cause(enum.StrEnum):
    """Who wanted the model that came up."""

    REQUEST = "request"
    OPERATOR = "operator"  # `vllama start`; `auto_start`; its engine was ready, and its settings changed
    PIN = "pin"


@dataclass(slots=True, kw_only=True)
class Sums:
    """`stays_s`: seconds that engines of a model were in a phase; `operations`: begun, by model, what, and why.

    `evictions`: of these the sleeps and stops of those whose memory was needed. `swaps`: starts and wakes for which
    others were evicted. `failures`: of engines, by model, reason, and whether they had been ready before.
    """

    stays_s: defaultdict[tuple[str, Phase], float] = field(default_factory=lambda: defaultdict(float))
    operations: Counter[tuple[str, Verb, Reason]] = field(default_factory=Counter)
    evictions: Counter[tuple[str, Verb, Reason]] = field(default_factory=Counter)
    swaps: Counter[tuple[str, Cause]] = field(default_factory=Counter)
    failures: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    durations: dict[tuple[str, Verb], Histogram] = field(default_factory=dict)
    plans: Histogram = field(default_factory=lambda: Histogram(PLAN_BOUNDS_S))
    passes: Histogram = field(default_factory=lambda: Histogram(PLAN_BOUNDS_S))
    rejected_plans: int = 0
    failed_passes: int = 0


class Tally:
    """`model_of(name)`: the model whose replica has this name."""

    def __init__(self, model_of: Callable[[str], str]) -> None:
        self._model_of = model_of
        self._sums = Sums()
        self._stays: dict[str, tuple[str, Phase, float]] = {}  # by replica: its model, in which phase, since when
        self._displacing: set[str] = set()  # replicas for which others were evicted, and that have not begun to come up

    def copy(self, now: float) -> Sums:
        """For whoever reads it on another thread, with the stays that last."""
        sums = self._sums
        stays_s = sums.stays_s.copy()
        for model, phase, since in self._stays.values():
            stays_s[model, phase] += now - since
        return Sums(
            stays_s=stays_s, operations=sums.operations.copy(), evictions=sums.evictions.copy(),
            swaps=sums.swaps.copy(), failures=sums.failures.copy(),
            durations={key: histogram.copy() for key, histogram in sums.durations.items()},
            plans=sums.plans.copy(), passes=sums.passes.copy(), rejected_plans=sums.rejected_plans,
            failed_passes=sums.failed_passes,
        )  # fmt: skip

    # what the loop and the actuator tell

    def planned(self, took_s: float, *, rejected: bool) -> None:
        self._sums.plans.add(took_s)
        self._sums.rejected_plans += rejected

    def passed(self, took_s: float, *, failed: bool) -> None:
        self._sums.passes.add(took_s)
        self._sums.failed_passes += failed

    def see(self, plan: Plan, operations: Iterable[Operation], now: float) -> None:
        """At the end of a pass: where it has left every replica."""
        under_way = {operation.model: operation for operation in operations}
        for decision in plan.decisions:
            operation = under_way.get(decision.model)
            self._stay(decision.model, phase_of(None, operation) if operation else _left(decision), now)
        if len(self._stays) > len(plan.decisions):
            self._forget(self._stays.keys() - {decision.model for decision in plan.decisions}, now)
        if self._displacing:
            self._displacing -= {decision.model for decision in plan.decisions if decision.reason in _GIVEN_UP}

    def begun(self, decision: Decision, action: Action, plan: Plan, cause: Cause) -> None:
        """`cause`: why the model of a start or wake is wanted."""
        name, verb = decision.model, Verb(type(action).__name__.lower())
        model = self._model(name)
        self._sums.operations[model, verb, decision.reason] += 1
        if decision.reason in FOR_OTHERS:
            self._sums.evictions[model, verb, decision.reason] += 1
            makes = (each for each in plan.decisions if each.reason is Reason.MAKING_ROOM)
            self._displacing.update(each.model for each in makes if name in each.waits_for)
        elif verb in {Verb.START, Verb.WAKE} and name in self._displacing:
            self._displacing.discard(name)
            self._sums.swaps[model, cause] += 1

    def took(self, name: str, verb: Verb, seconds: float) -> None:
        """An operation that went well; a start, until its engine was ready."""
        key = self._model(name), verb
        if key not in self._sums.durations:
            self._sums.durations[key] = Histogram(OPERATION_BOUNDS_S)
        self._sums.durations[key].add(seconds)

    def failed(self, name: str, reason: str, *, was_ready: bool) -> None:
        self._sums.failures[self._model(name), reason, was_ready] += 1

    def _stay(self, name: str, phase: Phase, now: float) -> None:
        known = self._stays.get(name)
        if known is None:
            self._stays[name] = self._model_of(name), phase, now
        elif known[1] is not phase:
            model, was, since = known
            self._sums.stays_s[model, was] += now - since
            self._stays[name] = model, phase, now

    def _forget(self, names: Iterable[str], now: float) -> None:
        for name in names:
            model, phase, since = self._stays.pop(name)
            self._sums.stays_s[model, phase] += now - since

    def _model(self, name: str) -> str:
        """Also of a replica that is wanted no more, and on its way down."""
        known = self._stays.get(name)
        return self._model_of(name) if known is None else known[0]


def _left(decision: Decision) -> Phase:
    """No operation is under way on it; whether it takes requests is what was decided."""
    if decision.before in {Phase.READY, Phase.DRAINING}:
        return Phase.DRAINING if decision.drain else Phase.READY
    return decision.before
