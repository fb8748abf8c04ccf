"""What would happen if somebody called these models, or an operator asked for one, now: the loop's own plans. Pure.

Between the plans of `project` lie things that only time can bring (a load ends, requests in flight end, a pause after
a failure passes). They are supposed only when nothing else moves any more, and are steps of their own.
"""

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import Override, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Loading, Lost, Snapshot
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.planner.backoff import retry_at
from vllama.planner.believed import believed
from vllama.planner.books import Books, books_of
from vllama.planner.plan import plan
from vllama.planner.project import apply, settle
from vllama.planner.steps import Step, StepKind, Story, tell_ends, tell_last_requests, tell_pause, tell_requests
from vllama.planner.suppose import answered, ended, replicas_of, requested, wished
from vllama.planner.timing import AT_ONCE, UNKNOWN, Span, latest
from vllama.planner.view import View

__all__ = ["Asked", "Outcome", "Rehearsal", "Step", "StepKind", "rehearse", "rehearse_wish"]

LONGEST = 100  # passes


class Outcome(enum.StrEnum):
    READY = "ready"
    REFUSED = "refused"
    WAITS = "waits"  # nothing that can be foreseen makes it ready, or puts it down
    PUT_DOWN = "put_down"  # asleep or stopped, as an operator wished


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What becomes of one request: `waits` until it is let in, or is refused. `message` has the sum of a refusal.

    The same of an operator's wish, which is fulfilled after `waits`.
    """

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
    story = Story(now=now, anyway=_acts(settle(desired, snapshot, now)))
    return _rehearse(story, desired, snapshot, models)


def rehearse_wish(desired: DesiredState, snapshot: Snapshot, now: float, model: str, wish: Override) -> Rehearsal:
    """What an operator's `wish` for `model` (its id) leads to, with what comes up in the room that it leaves."""
    story = Story(now=now, anyway=_acts(settle(desired, snapshot, now)))
    then = wished(desired, snapshot, model, wish)
    if isinstance(wish, WantReady):
        return _rehearse(story, *then, [model])
    phase, before = View(desired=desired, snapshot=snapshot, now=now).phase(model), books_of(desired, snapshot)
    first = plan(*then, now)
    desired, snapshot = _put_down(story, *then, model, wish)
    names = replicas_of(desired, model)
    down = names.isdisjoint(_up(snapshot, wish))
    takes = latest(story.over[name] for name in names if name in story.over)
    said = next(decision for decision in first.decisions if decision.model == model)
    answer = Asked(
        model=model, before=phase, outcome=Outcome.PUT_DOWN if down else Outcome.WAITS,
        waits=takes if down else UNKNOWN, reason=said.reason, message=said.message,
    )  # fmt: skip
    steps = sorted(story.steps, key=lambda step: step.begins.seconds)
    return Rehearsal(asked=(answer,), steps=tuple(steps), before=before, after=books_of(desired, snapshot))


def _put_down(
    story: Story, desired: DesiredState, snapshot: Snapshot, model: str, wish: Override
) -> tuple[DesiredState, Snapshot]:
    """The states when `model` is down and nothing moves, or when nothing that can be foreseen puts it down."""
    may_cut = isinstance(wish, WantStopped)
    for _ in range(LONGEST):
        made = plan(desired, snapshot, story.now)
        story.tell(made, snapshot)
        then = apply(made, desired, snapshot, story.now)
        if then == (desired, snapshot):
            up = replicas_of(desired, model) & _up(snapshot, wish)
            busy = {name for name in up if desired.demand_of(name).in_flight}
            if not up:
                break
            if busy:
                for name in sorted(busy):
                    tell_last_requests(story, desired, snapshot, name, may_cut=may_cut)
                then = answered(desired, busy, story.now), snapshot
            elif (later := _later(story, desired, snapshot, {d.model: d for d in made.decisions}, up)) is not None:
                then = later
            else:
                break
        desired, snapshot = then
    return desired, snapshot


def _up(snapshot: Snapshot, wish: Override) -> set[str]:
    """Names of the engines that are not as the wish would have them, or that something is under way on."""
    under_way, stopped = {op.model for op in snapshot.operations}, isinstance(wish, WantStopped)
    there = (engine for engine in believed(snapshot) if not isinstance(engine.state, Lost))
    return under_way | {engine.model for engine in there if stopped or not isinstance(engine.state, Asleep)}


def _rehearse(story: Story, desired: DesiredState, snapshot: Snapshot, models: Sequence[str]) -> Rehearsal:
    now = story.now
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
        leads = View(desired=desired, snapshot=snapshot, now=now)
        found |= {
            model: replace(_asked(story, said[leads.lead(model)], then[0], phases.phase(model)), model=model)
            for model in pending
        }
        pending = [model for model in pending if found[model].outcome is Outcome.WAITS]
        if not pending:
            desired, snapshot = then
            break
        if then == (desired, snapshot):
            later = _later(story, desired, snapshot, said, [leads.lead(model) for model in pending])
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


def _asked(story: Story, decision: Decision, then: DesiredState, before: Phase) -> Asked:
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


def _later(
    story: Story, desired: DesiredState, snapshot: Snapshot, said: dict[str, Decision], pending: Collection[str]
) -> tuple[DesiredState, Snapshot] | None:
    """The states after what only time can bring; None: time alone brings nothing that can be foreseen."""
    view = View(desired=desired, snapshot=snapshot, now=story.now)
    if view.operations or any(isinstance(engine.state, Loading) for engine in view.seen):
        tell_ends(story, desired, snapshot)
        return desired, ended(desired, snapshot, story.now)
    resting = {model for model in pending if said[model].reason is Reason.BACKING_OFF and model in snapshot.crashes}
    if resting:
        for model in sorted(resting):
            tell_pause(story, said[model], retry_at(snapshot.crashes[model]) - story.now)
        crashes = {model: found for model, found in snapshot.crashes.items() if model not in resting}
        return desired, replace(snapshot, crashes=crashes)
    busy = {model for model in _waited_for(said, pending) if desired.demand_of(model).in_flight}
    if not busy:
        return None
    for model in sorted(busy):
        tell_requests(story, desired, snapshot, model)
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
