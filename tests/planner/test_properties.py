"""The invariants of a plan, over clusters that nobody would think of."""

from dataclasses import replace

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.strategies import Situation, any_state, quiet_state, sane_state
from vllama.domain.action import Start, Wake
from vllama.domain.decision import Plan
from vllama.domain.demand import WantReady
from vllama.domain.observed import Awake, NodeState
from vllama.domain.reason import Reason
from vllama.domain.spec import Policy
from vllama.planner import plan
from vllama.planner.check import check
from vllama.planner.project import apply, settle
from vllama.planner.spans import span_of
from vllama.planner.view import View
from vllama.planner.wanted import wanted_models

MANY, SOME = settings(max_examples=200), settings(max_examples=100)
STATES = st.one_of(any_state(), sane_state())


def plan_of(situation: Situation) -> Plan:
    return plan(situation.desired, situation.snapshot, situation.now)


def gist(made: Plan) -> list[tuple]:
    """What a plan says, without the words: these count the seconds."""
    return [(d.model, d.reason, d.action, d.drain, d.refused) for d in made.decisions]


def steps(situation: Situation, limit: int = 60) -> list[tuple[Situation, Plan]]:
    """Each state on the way to rest, with its plan; after the last one nothing changes."""
    walked = []
    while len(walked) < limit:
        made = plan_of(situation)
        walked.append((situation, made))
        desired, snapshot = apply(made, situation.desired, situation.snapshot, situation.now)
        if (desired, snapshot) == (situation.desired, situation.snapshot):
            return walked
        situation = Situation(desired=desired, snapshot=snapshot, now=situation.now)
    raise AssertionError(f"no rest after {limit} plans, the last: {list(walked[-1][1].actions)}")


@MANY
@given(any_state())
def test_whatever_the_state_a_plan_is_made_and_the_second_opinion_finds_nothing(situation):
    assert check(situation.desired, situation.snapshot, situation.now, plan_of(situation)) == ()


@MANY
@given(sane_state())
def test_every_plan_on_the_way_to_rest_passes_the_second_opinion(situation):
    for state, made in steps(situation):
        assert check(state.desired, state.snapshot, state.now, made) == ()


@SOME
@given(STATES, st.randoms(use_true_random=False))
def test_the_order_of_the_inputs_does_not_matter(situation, random):
    def shuffled(items):
        items = list(items)
        random.shuffle(items)
        return items

    desired, snapshot = situation.desired, situation.snapshot
    nodes = [replace(node, devices=tuple(shuffled(node.devices))) for node in shuffled(snapshot.nodes)]
    again = replace(
        desired,
        models=dict(shuffled(desired.models.items())),
        demand=dict(shuffled(desired.demand.items())),
        overrides=dict(shuffled(desired.overrides.items())),
    )
    seen = replace(
        snapshot,
        nodes=tuple(nodes),
        engines=tuple(shuffled(snapshot.engines)),
        operations=tuple(shuffled(snapshot.operations)),
    )
    assert plan(again, seen, situation.now) == plan_of(situation)


@SOME
@given(sane_state())
def test_of_machines_that_do_not_answer_nothing_is_done_and_nothing_depends_on_them(situation):
    """Where nobody was to be there alone, the others are used as if there were no such machines."""
    desired, snapshot = replace(situation.desired, policy=Policy()), situation.snapshot
    ready = {node.name: node for node in snapshot.nodes if node.state is NodeState.READY}
    assume(ready)
    assume(all(ready.keys() >= set(e.nodes) or ready.keys().isdisjoint(e.nodes) for e in snapshot.engines))
    for spec in desired.models.values():
        assume(span_of(spec, snapshot.nodes) == span_of(spec, list(ready.values())))
    without = replace(
        snapshot, nodes=tuple(ready.values()),
        engines=tuple(engine for engine in snapshot.engines if engine.node in ready),
        operations=tuple(op for op in snapshot.operations if op.node in ready),
    )  # fmt: skip
    made, then = plan(desired, snapshot, situation.now), plan(desired, without, situation.now)
    assert list(made.actions) == list(then.actions)


@SOME
@given(sane_state())
def test_a_cluster_at_rest_is_left_alone(situation):
    _, made = steps(situation)[-1]
    assert list(made.actions) == []


@MANY
@given(quiet_state())
def test_when_faults_have_stopped_everybody_is_served_or_told_why_not(situation):
    view = View(desired=situation.desired, snapshot=situation.snapshot, now=situation.now)

    def served(name: str) -> str:
        spec = situation.desired.models.get(name)
        return name if spec is None else spec.served_name

    wanted = {served(want.model) for want in wanted_models(view)}
    walked = steps(situation)
    desired, snapshot = walked[-1][0].desired, walked[-1][0].snapshot
    refused = {served(d.model): d for _, made in walked for d in made.decisions if d.refused}
    raised = {served(a.model) for _, made in walked for a in made.actions if isinstance(a, Start | Wake)}
    awake = {served(engine.model) for engine in situation.snapshot.engines if isinstance(engine.state, Awake)}
    assert wanted <= refused.keys() | raised | awake
    never = (
        Reason.CANNOT_FIT,
        Reason.NO_SUCH_DEVICE,
        Reason.NO_SUCH_NODE,
        Reason.WOULD_EVICT,
        Reason.HELD_BY_OPERATOR,
        Reason.OPERATOR_ASKED,
    )
    assert {d.reason for d in refused.values()} <= set(never)
    ready = {served(engine.model) for engine in snapshot.engines if isinstance(engine.state, Awake)}
    for model, spec in desired.models.items():
        if isinstance(desired.overrides.get(model), WantReady | None):
            assert desired.demand_of(model).waiting == 0
            assert not spec.pin or served(model) in ready or served(model) in refused


@MANY
@given(quiet_state())
def test_nobody_is_raised_twice_or_brought_back_without_newer_demand(situation):
    walked = steps(situation)
    raised = [a.model for _, made in walked for a in made.actions if isinstance(a, Start | Wake)]
    assert len(raised) == len(set(raised))
    for i, (state, made) in enumerate(walked):
        for decision in made.decisions:
            if decision.reason is not Reason.EVICTED or decision.action is None:
                continue
            override = state.desired.overrides.get(decision.model)
            wanted = state.desired.demand_of(decision.model).waiting or isinstance(override, WantReady)
            assert wanted or all(
                spare(again, decision.model) for again in raised_again(walked[i + 1 :], decision.model)
            )


def raised_again(walked: list[tuple[Situation, Plan]], model: str) -> list[Situation]:
    return [
        state for state, made in walked for a in made.actions if isinstance(a, Start | Wake) and a.model == model
    ]  # fmt: skip


def spare(state: Situation, model: str) -> bool:
    """Another engine of its model serves: one more beside that may come back where memory is free."""
    return View(desired=state.desired, snapshot=state.snapshot, now=state.now).spare(model)


@MANY
@given(STATES, st.floats(0.001, 0.999))
def test_until_the_requeue_time_alone_changes_nothing(situation, part):
    made = plan_of(situation)
    later = situation.now + (part * made.requeue_after_s if made.requeue_after_s is not None else part * 1e6)
    assert gist(plan(situation.desired, situation.snapshot, later)) == gist(made)


@MANY
@given(STATES)
def test_looking_again_when_told_to_comes_to_something_new(situation):
    situation = _doors_as_planned(situation)
    first = made = plan_of(situation)
    for _ in range(60):
        if made.requeue_after_s is None:
            return
        assert made.requeue_after_s > 0
        situation = replace(situation, now=situation.now + made.requeue_after_s)
        made = plan_of(situation)
        if gist(made) != gist(first):
            return
    raise AssertionError(f"60 looks in vain, the next in {made.requeue_after_s} s")


def _doors_as_planned(situation: Situation) -> Situation:
    """Admissions opened and closed as the plan says, and nothing else done."""
    for _ in range(3):
        made = plan_of(situation)
        idle = replace(made, decisions=tuple(msgspec.structs.replace(d, action=None) for d in made.decisions))
        desired, snapshot = apply(idle, situation.desired, situation.snapshot, situation.now)
        situation = replace(situation, desired=desired, snapshot=snapshot)
    return situation


@SOME
@given(sane_state())
def test_settling_ends_with_a_plan_that_does_nothing(situation):
    plans = settle(situation.desired, situation.snapshot, situation.now)
    assert len(plans) < 100
    assert not any(plans[-1].actions)
    assert all(any(made.actions) for made in plans[:-1])
