"""Requests come, the planner decides, changes take their time: one trace in virtual time, the same every time.

Times are whole microseconds since the first arrival, so that what is due at one moment is due at one moment. What
happens at one moment is seen together by the plan that follows: ends of requests, ends of changes, arrivals.
"""

import heapq
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vllama.domain.action import Sleep, Start, Stop, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import Demand, Override, WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Awake, Node, Snapshot
from vllama.domain.reason import Reason
from vllama.domain.replicas import expanded
from vllama.domain.spec import ModelSpec, Policy
from vllama.planner import plan
from vllama.replay.costs import Costs
from vllama.replay.line import Line
from vllama.replay.machine import Machine
from vllama.replay.result import Result, Tally
from vllama.replay.trace import Trace

Foresight = Callable[[Mapping[str, Demand], Snapshot], Mapping[str, Demand]]
"""What the planner is told of demand at a moment, in place of what a gateway could know. By replica."""

_US = 1_000_000
_NEVER = 1 << 62
_MOST_IN_VAIN = 1000  # looks again, by time, with nothing that happened between: whoever waits then waits for ever
_MOST_PASSES = 50  # at one moment; a plan that opened a door is followed by another
_COMES = frozenset({Reason.STARTING, Reason.WAKING, Reason.SERVING, Reason.PINNED})
_END, _CHANGED = 0, 1


class CannotReplay(ValueError):
    """Why this trace cannot be replayed with these models, for a person."""


def simulate(
    trace: Trace,
    desired: DesiredState,
    nodes: Sequence[Node],
    costs: Costs,
    policy: Policy | None = None,
    *,
    foresight: Foresight | None = None,
    every_event: bool = False,
) -> Result:
    """Replays `trace` from empty devices until its last request has ended. Raises CannotReplay.

    `desired.models` are as models.yaml says them; its demand is not looked at. `costs` are needed for every model.
    `policy`: None: that of `desired`. `every_event`: the planner is asked at every event; otherwise not where it could
    only say again what it has said, which changes no result. Nobody who waits gives up.
    """
    wished = replace(desired, policy=policy or desired.policy)
    return _World(trace, wished, nodes, costs, foresight=foresight, every_event=every_event).run()


class _World:
    def __init__(
        self, trace: Trace, desired: DesiredState, nodes: Sequence[Node], costs: Costs, *,
        foresight: Foresight | None, every_event: bool,
    ) -> None:  # fmt: skip
        self._every_event = every_event
        firsts = [spec for spec in desired.models.values() if spec.replica == 1]
        self._specs = expanded(firsts)
        _check(trace, firsts, costs)
        self._served = {name: spec.model for spec in firsts for name in names_of(spec)}
        self._tallies = {spec.model: Tally() for spec in firsts}
        self._machine = Machine(nodes, self._specs, costs, self._tallies)
        self._lines = {
            name: Line(model=name, max_concurrency=spec.max_concurrency) for name, spec in self._specs.items()
        }
        for spec in firsts:
            further = (self._lines[name] for name, each in self._specs.items() if each.replica_of == spec.model)
            self._lines[spec.model].further = tuple(further)
        self._overrides: dict[str, Override] = {
            spec.model: WantReady(at=0.0) for spec in firsts if spec.auto_start and not spec.pin
        }
        self._desired = replace(desired, models=self._specs, overrides={}, since=0.0)
        self._foresight = foresight
        self._requests = trace.requests
        origin_s = trace.requests[0].at_s if trace.requests else 0.0
        self._arrivals = [round((request.at_s - origin_s) * _US) for request in trace]
        self._busy = [round(request.busy_s * _US) for request in trace]
        self._waits = array("d", [float("nan")]) * len(trace)
        self._events: list[tuple[int, int, int, str]] = []  # when, kind, number of the change (or 0), replica
        self._now, self._due, self._next, self._left = 0, 0, 0, len(trace)
        self._unsettled, self._refused, self._plans = False, 0, 0

    def run(self) -> Result:
        in_vain = 0
        while self._left and in_vain < _MOST_IN_VAIN and (at := self._next_event()) < _NEVER:
            self._now = at
            ring, before = self._every_event or at >= self._due, (len(self._events), self._next)
            while self._events and self._events[0][0] == at:
                _, kind, change, name = heapq.heappop(self._events)
                ring |= self._request_ends(name) if kind == _END else self._change_ends(name, change)
            while self._next < len(self._arrivals) and self._arrivals[self._next] == at:
                ring |= self._arrives(self._next)
                self._next += 1
            if ring:
                self._reconcile()
            in_vain = in_vain + 1 if not self._events and before == (0, self._next) else 0
        return Result(
            models=self._tallies, waits_s=self._waits, refused=self._refused, unserved=self._left, plans=self._plans,
            ended_s=self._now / _US,
        )  # fmt: skip

    @property
    def _now_s(self) -> float:
        return self._now / _US

    def _next_event(self) -> int:
        at = self._arrivals[self._next] if self._next < len(self._arrivals) else _NEVER
        if self._events:
            at = min(at, self._events[0][0])
        return at if at == _NEVER and not self._waiting() else min(at, self._due)

    def _waiting(self) -> bool:
        return any(line.waiters for line in self._lines.values())

    # what happens; each says whether the planner could now say something new

    def _arrives(self, index: int) -> bool:
        line = self._lines[self._served[self._requests[index].model]]
        free = None if line.waiters else line.least_loaded()
        if free is not None:
            self._grant(free, line, index, self._now_s)
            return self._unsettled
        line.waiters.append((index, self._now_s))
        return len(line.waiters) == 1  # how many wait behind the oldest decides nothing

    def _request_ends(self, name: str) -> bool:
        line, first = self._lines[name], self._lines[self._specs[name].served_name]
        line.give_back(self._now_s)
        self._left -= 1
        self._pour(first)
        idle_s = self._specs[name].idle.sleep_after_s
        if line.in_flight == 0 and idle_s is not None:
            self._look_at(self._now_s + idle_s)
        return self._unsettled

    def _change_ends(self, name: str, change: int) -> bool:
        return self._machine.end(name, change, self._now_s)

    def _grant(self, line: Line, first: Line, index: int, since_s: float) -> None:
        line.take(self._now_s)
        first.asked.append(self._now_s)
        wait_s = self._now_s - since_s
        self._waits[index] = wait_s
        self._tallies[first.model].waits_s.append(wait_s)
        heapq.heappush(self._events, (self._now + self._busy[index], _END, 0, line.model))

    def _pour(self, first: Line) -> bool:
        poured = False
        while first.waiters and (free := first.least_loaded()) is not None:
            self._grant(free, first, *first.waiters.popleft())
            poured = True
        return poured

    # the controller's part

    def _reconcile(self) -> None:
        """As the controller does; and where a plan let somebody in or closed a door, another one sees that at once."""
        for _ in range(_MOST_PASSES):
            demand: Mapping[str, Demand] = {name: line.demand() for name, line in self._lines.items()}
            snapshot = self._machine.snapshot(self._now_s)
            if self._foresight is not None:
                demand = self._foresight(demand, snapshot)
            desired = replace(self._desired, demand=demand, overrides=self._overrides)
            made = plan(desired, snapshot, self._now_s)
            self._plans += 1
            news = [self._publish(decision) for decision in made.decisions]
            for decision in made.decisions:
                self._act(decision)
            self._due = _NEVER
            if made.requeue_after_s is not None:
                self._look_at(self._now_s + made.requeue_after_s)
            self._unsettled = self._is_unsettled(made)
            if not any(news):
                return

    def _look_at(self, when_s: float) -> None:
        """Look again when that has passed."""
        if when_s < _NEVER / _US:
            self._due = min(self._due, round(when_s * _US) + 1)

    def _is_unsettled(self, made: Plan) -> bool:
        """Somebody waits for others: who is busy, and who is asked for, may then change the next plan."""
        return any(
            decision.waits_for
            or decision.drain
            or (
                decision.reason not in _COMES
                and not isinstance(decision.action, Start | Wake)
                and self._lines[decision.model].waiters
            )
            for decision in made.decisions
        )

    def _publish(self, decision: Decision) -> bool:
        """Doors and waiters, as the decision says; whether that changed anything."""
        name, now = decision.model, self._now_s
        line, spec, engine = self._lines[name], self._specs[name], self._machine.engines.get(name)
        first, changed = self._lines[spec.served_name], False
        if decision.refused:
            changed = self._refuse(first)
        if engine is None or name in self._machine.operations or isinstance(decision.action, Sleep | Stop):
            return changed
        if isinstance(engine.state, Awake):
            changed |= line.drain(now) if decision.drain else line.let_in(now)
            changed |= self._pour(first)
            if first.model in self._overrides and line.open:  # the operator's wish has come true
                del self._overrides[first.model]
                line.last_used_at = max(now, line.last_used_at or now)
                changed = True
        return changed

    def _refuse(self, first: Line) -> bool:
        refused = len(first.waiters)
        wished = self._overrides.pop(first.model, None) is not None
        first.waiters.clear()
        self._refused, self._left = self._refused + refused, self._left - refused
        self._tallies[first.model].refused += refused
        return refused > 0 or wished

    def _act(self, decision: Decision) -> None:
        if decision.action is None:
            return
        if isinstance(decision.action, Sleep | Stop):
            self._lines[decision.model].close()
        change, took_s = self._machine.begin(decision.action, self._now_s)
        heapq.heappush(self._events, (self._now + round(took_s * _US), _CHANGED, change, decision.model))


def names_of(spec: ModelSpec) -> tuple[str, ...]:
    """All that requests may call it."""
    return (spec.model, *spec.aliases, *(name for name, _ in spec.lora))


def _check(trace: Trace, specs: Sequence[ModelSpec], costs: Costs) -> None:
    known = {name for spec in specs for name in names_of(spec)}
    if strange := [model for model in trace.models if model not in known]:
        raise CannotReplay(f"The trace asks for {', '.join(strange)}, and no such model is declared.")
    if unknown := [spec.model for spec in specs if spec.model not in costs]:
        raise CannotReplay(f"It is not known what {', '.join(unknown)} take.")
