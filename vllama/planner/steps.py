"""The steps of a rehearsal, each with when it begins and how long it takes. Pure."""

import enum
from dataclasses import dataclass, field, replace

from vllama.domain.action import Sleep, Wake
from vllama.domain.decision import Decision, Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import DeviceKey, Loading, Place, Snapshot
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.domain.units import format_duration
from vllama.planner.timing import AT_ONCE, UNKNOWN, Span, latest, left_of, left_of_load, takes
from vllama.planner.view import View

_LEADS_TO = {
    Phase.STARTING: Phase.READY, Phase.WAKING: Phase.READY, Phase.DRAINING: Phase.ASLEEP, Phase.STOPPING: Phase.STOPPED,
}  # fmt: skip


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
    further: tuple[Place, ...] = ()

    @property
    def keys(self) -> tuple[DeviceKey, ...]:
        here = () if self.node is None else (Place(node=self.node, devices=self.devices),)
        return tuple((place.node, device) for place in (*here, *self.further) for device in place.devices)


@dataclass(slots=True)
class Story:
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
                    devices=action.devices, further=action.further,
                    level=int(action.level) if isinstance(action, Sleep | Wake) else None,
                    begins=AT_ONCE, takes=takes(action, snapshot.footprints.get(action.model)),
                    anyway=(type(action).__name__, action.model) in self.anyway,
                )
            )  # fmt: skip

    def add(self, step: Step) -> None:
        """It begins when the earlier changes of its devices and of its model are over."""
        keys = step.keys
        before = [self.free[key] for key in keys if key in self.free]
        begins = latest([*before, self.over.get(step.model, AT_ONCE)])
        self.steps.append(replace(step, begins=begins))
        over = begins.then(step.takes)
        self.over[step.model] = over
        self.free |= dict.fromkeys(keys, over)


def tell_ends(story: Story, desired: DesiredState, snapshot: Snapshot) -> None:
    view = View(desired=desired, snapshot=snapshot, now=story.now)
    for op in sorted(view.operations.values(), key=lambda op: (op.started_at, op.engine_id)):
        since = format_duration(story.now - op.started_at)
        phase = view.phase(op.model)
        story.add(
            Step(
                kind=StepKind.UNDER_WAY, model=op.model, before=phase, after=_LEADS_TO[phase], node=op.node,
                devices=op.devices, further=op.further, begins=AT_ONCE,
                message=f"Its {op.verb} is under way since {since}.",
                takes=left_of(op, snapshot.footprints.get(op.model), story.now),
            )
        )  # fmt: skip
    starting = {op.engine_id for op in snapshot.operations}
    for engine in sorted(view.seen, key=lambda engine: (engine.started_at, engine.engine_id)):
        if isinstance(engine.state, Loading) and engine.engine_id not in starting:
            story.add(
                Step(
                    kind=StepKind.UNDER_WAY, model=engine.model, before=Phase.STARTING, after=Phase.READY,
                    node=engine.node, devices=engine.devices, further=engine.further, begins=AT_ONCE,
                    message=f"It loads since {format_duration(story.now - engine.started_at)}.",
                    takes=left_of_load(engine.started_at, snapshot.footprints.get(engine.model), story.now),
                )
            )  # fmt: skip


def tell_pause(story: Story, decision: Decision, left_s: float) -> None:
    story.add(
        Step(
            kind=StepKind.PAUSE, model=decision.model, before=decision.before, after=decision.before,
            reason=decision.reason, message=decision.message, begins=AT_ONCE, takes=Span(seconds=max(0.0, left_s)),
        )
    )  # fmt: skip


def tell_requests(story: Story, desired: DesiredState, snapshot: Snapshot, model: str) -> None:
    bound = format_duration(desired.policy.fairness_bound_s)
    _requests(story, desired, snapshot, model, f"New ones queue once somebody has waited {bound}.")


def tell_last_requests(story: Story, desired: DesiredState, snapshot: Snapshot, model: str, *, may_cut: bool) -> None:
    """Those that keep an engine from going down as an operator wished."""
    bound = format_duration(desired.policy.drain_deadline_s)
    then = "what is left is cut" if may_cut else "it takes requests again for a while if they have not"
    _requests(story, desired, snapshot, model, f"New ones queue. After {bound} {then}.")


def _requests(story: Story, desired: DesiredState, snapshot: Snapshot, model: str, meanwhile: str) -> None:
    view = View(desired=desired, snapshot=snapshot, now=story.now)
    engine, phase = view.engine(model), view.phase(model)
    count = desired.demand_of(model).in_flight
    some = "request in flight ends" if count == 1 else "requests in flight end"
    story.add(
        Step(
            kind=StepKind.REQUESTS, model=model, before=phase, after=phase, begins=AT_ONCE, takes=UNKNOWN,
            message=f"Its {count} {some}; nobody knows when. {meanwhile}",
            node=engine.node if engine else None, devices=engine.devices if engine else (),
        )
    )  # fmt: skip
