"""What would happen if somebody called these models now: the loop's own plans, one after the other. Pure.

Between the plans of `project` lie things that only time can bring (a load ends, requests in flight end, a pause after
a failure passes). They are supposed only when nothing else moves any more, and are steps of their own.
"""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from vllama.domain.action import Sleep, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Loading, Snapshot
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.backoff import retry_at
from vllama.planner.books import Books, books_of
from vllama.planner.plan import plan
from vllama.planner.project import apply, settle
from vllama.planner.suppose import answered, ended, requested
from vllama.planner.timing import AT_ONCE, UNKNOWN, Span, latest, left_of, left_of_load, takes
from vllama.planner.view import DeviceKey, View

LONGEST = 100  # passes


class StepKind(enum.StrEnum):
    START = "start"
    WAKE = "wake"
    SLEEP = "sleep"
    STOP = "stop"
    UNDER_WAY = "under_way"  # what began before the request comes to its end
    REQUESTS = "requests"  # requests in flight come to their end
    PAUSE = "pause"  # after a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`begins` counts from the request. `anyway`: it would happen without the request, too."""

    kind: StepKind
    model: str
    before: Phase
    after: Phase
    message: str
    begins: Span
    takes: Span
    reason: Reason | None = None
    node: str | None = None
    devices: tuple[int, ...] = ()
    level: int | None = None
    anyway: bool = False


class Outcome(enum.StrEnum):
    READY = "ready"
    REFUSED = "refused"
    WAITS = "waits"  # nothing that can be foreseen makes it ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What becomes of one request: `waits` until it is let in, or is refused. `message` has the sum of a refusal."""

    model: str
    before: Phase
    outcome: Outcome
    waits: Span
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """`asked` in order of arrival, `steps` in order of time; the books before and after all of them."""

    asked: tuple[Asked, ...]
    steps: tuple[Step, ...]
    before: Books
    after: Books


def rehearse(desired: DesiredState, snapshot: Snapshot, now: float, models: Sequence[str]) -> Rehearsal:
    """`models` are ids, in order of arrival; requests are taken as answered in no time once their model is ready."""
    story = _Story(now=now, anyway=_acts(settle(desired, snapshot, now)))
    before = books_of(desired, snapshot)
    pending = list(dict.fromkeys(models))
    phases = View(desired=desired, snapshot=snapshot, now=now)
    found: dict[str, Asked] = {}
    desired = requested(desired, pending, now)
    for _ in range(LONGEST):
        made = plan(desired, snapshot, now)
        story.tell(made, snapshot)
        then = apply(made, desired, snapshot, now)
        said = {decision.model: decision for decision in made.decisions}
        found |= {model: _asked(story, said[model], then[0], phases.phase(model)) for model in pending}
        pending = [model for model in pending if found[model].outcome is Outcome.WAITS]
        if not pending:
            desired, snapshot = then
            break
        if then == (desired, snapshot):
            later = _later(story, desired, snapshot, said, pending)
            if later is None:
                break
            then = later
        desired, snapshot = then
    steps = sorted(story.steps, key=lambda step: step.begins.seconds)
    return Rehearsal(
        asked=tuple(found.values()), steps=tuple(steps), before=before, after=books_of(desired, snapshot)
    )  # fmt: skip


def _acts(plans: Sequence[Plan]) -> set[tuple[str, str]]:
    return {(type(action).__name__, action.model) for made in plans for action in made.actions}


def _asked(story: "_Story", decision: Decision, then: DesiredState, before: Phase) -> Asked:
    """Let in, turned away, or still waiting after the plan."""
    if decision.refused:
        outcome = Outcome.REFUSED
    else:
        outcome = Outcome.WAITS if then.demand_of(decision.model).waiting else Outcome.READY
    waits = UNKNOWN if outcome is Outcome.WAITS else story.over.get(decision.model, AT_ONCE)
    return Asked(
        model=decision.model, before=before, outcome=outcome, waits=waits, reason=decision.reason,
        message=decision.message,
    )  # fmt: skip


@dataclass(slots=True)
class _Story:
    """`free`: when the changes of a device so far are over; `over`: those of a model."""

    now: float
    anyway: set[tuple[str, str]]
    steps: list[Step] = field(default_factory=list)
    free: dict[DeviceKey, Span] = field(default_factory=dict)
    over: dict[str, Span] = field(default_factory=dict)

    def tell(self, made: Plan, snapshot: Snapshot) -> None:
        for decision in made.decisions:
            action = decision.action
            if action is None:
                continue
            self.add(
                Step(
                    kind=StepKind(type(action).__name__.lower()), model=action.model, before=decision.before,
                    after=decision.after, reason=decision.reason, message=decision.message, node=action.node,
                    devices=action.devices, level=int(action.level) if isinstance(action, Sleep | Wake) else None,
                    begins=AT_ONCE, takes=takes(action, snapshot.footprints.get(action.model)),
                    anyway=(type(action).__name__, action.model) in self.anyway,
                )
            )  # fmt: skip

    def add(self, step: Step) -> None:
        """It begins when the earlier changes of its devices and of its model are over."""
        keys = [(step.node, device) for device in step.devices if step.node is not None]
        before = [self.free[key] for key in keys if key in self.free]
        begins = latest([*before, self.over.get(step.model, AT_ONCE)])
        self.steps.append(replace(step, begins=begins))
        over = begins.then(step.takes)
        self.over[step.model] = over
        self.free |= dict.fromkeys(keys, over)


def _later(
    story: _Story, desired: DesiredState, snapshot: Snapshot, said: dict[str, Decision], pending: Collection[str]
) -> tuple[DesiredState, Snapshot] | None:
    """The states after what only time can bring; None: time alone brings nothing that can be foreseen."""
    if snapshot.operations or any(isinstance(engine.state, Loading) for engine in snapshot.engines):
        _tell_ends(story, desired, snapshot)
        return desired, ended(desired, snapshot, story.now)
    resting = {model for model in pending if said[model].reason is Reason.BACKING_OFF and model in snapshot.crashes}
    if resting:
        for model in sorted(resting):
            _tell_pause(story, said[model], retry_at(snapshot.crashes[model]) - story.now)
        crashes = {model: found for model, found in snapshot.crashes.items() if model not in resting}
        return desired, replace(snapshot, crashes=crashes)
    busy = {model for model in _waited_for(said, pending) if desired.demand_of(model).in_flight}
    if not busy:
        return None
    for model in sorted(busy):
        _tell_requests(story, desired, snapshot, model)
    return answered(desired, busy, story.now), snapshot


def _waited_for(said: dict[str, Decision], pending: Collection[str]) -> set[str]:
    """Whom the pending wait for, and whom those wait for."""
    found: set[str] = set()
    todo = list(pending)
    while todo:
        decision = said.get(todo.pop())
        fresh = set(decision.waits_for) - found if decision is not None else set()
        found |= fresh
        todo += fresh
    return found


def _tell_ends(story: _Story, desired: DesiredState, snapshot: Snapshot) -> None:
    view, leads = View(desired=desired, snapshot=snapshot, now=story.now), _LEADS_TO
    for op in sorted(snapshot.operations, key=lambda op: (op.started_at, op.engine_id)):
        since = format_duration(story.now - op.started_at)
        phase = view.phase(op.model)
        story.add(
            Step(
                kind=StepKind.UNDER_WAY, model=op.model, before=phase, after=leads[phase], node=op.node,
                devices=op.devices, message=f"Its {op.verb} is under way since {since}.", begins=AT_ONCE,
                takes=left_of(op, snapshot.footprints.get(op.model), story.now),
            )
        )  # fmt: skip
    starting = {op.engine_id for op in snapshot.operations}
    for engine in sorted(snapshot.engines, key=lambda engine: (engine.started_at, engine.engine_id)):
        if isinstance(engine.state, Loading) and engine.engine_id not in starting:
            story.add(
                Step(
                    kind=StepKind.UNDER_WAY, model=engine.model, before=Phase.STARTING, after=Phase.READY,
                    node=engine.node, devices=engine.devices, begins=AT_ONCE,
                    message=f"It loads since {format_duration(story.now - engine.started_at)}.",
                    takes=left_of_load(engine.started_at, snapshot.footprints.get(engine.model), story.now),
                )
            )  # fmt: skip


_LEADS_TO = {
    Phase.STARTING: Phase.READY, Phase.WAKING: Phase.READY, Phase.DRAINING: Phase.ASLEEP, Phase.STOPPING: Phase.STOPPED,
}  # fmt: skip


def _tell_pause(story: _Story, decision: Decision, left_s: float) -> None:
    story.add(
        Step(
            kind=StepKind.PAUSE, model=decision.model, before=decision.before, after=decision.before,
            reason=decision.reason, message=decision.message, begins=AT_ONCE, takes=Span(seconds=max(0.0, left_s)),
        )
    )  # fmt: skip


def _tell_requests(story: _Story, desired: DesiredState, snapshot: Snapshot, model: str) -> None:
    view = View(desired=desired, snapshot=snapshot, now=story.now)
    engine, phase = view.engine(model), view.phase(model)
    count = desired.demand_of(model).in_flight
    bound = format_duration(desired.policy.fairness_bound_s)
    some = "request in flight ends" if count == 1 else "requests in flight end"
    story.add(
        Step(
            kind=StepKind.REQUESTS, model=model, before=phase, after=phase, begins=AT_ONCE, takes=UNKNOWN,
            message=f"Its {count} {some}; nobody knows when. New ones queue once somebody has waited {bound}.",
            node=engine.node if engine else None, devices=engine.devices if engine else (),
        )
    )  # fmt: skip
