"""What a request would lead to is what the loop would do, with the time it takes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state, quiet_state, sane_state
from vllama.domain.demand import WantStopped
from vllama.domain.observed import Crashes, Loading, Verb
from vllama.domain.reason import Reason
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.planner.project import settle
from vllama.planner.rehearse import Outcome, Rehearsal, StepKind, rehearse
from vllama.planner.suppose import requested
from vllama.planner.timing import CHANGE_S, COPIES_BYTES_PER_S, READS_BYTES_PER_S, START_S, STOP_S, Span


def asked(cluster: Cluster, *models: str) -> Rehearsal:
    return rehearse(*cluster.states(), NOW, models)


def measured(cluster: Cluster, model: str, **seconds: float) -> tuple:
    desired, snapshot = cluster.states()
    footprint = replace(snapshot.footprints[model], **seconds)
    return desired, replace(snapshot, footprints={**snapshot.footprints, model: footprint})


def told(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    return [(step.kind.value, step.model) for step in rehearsal.steps]


def room(books) -> list[float]:
    return [page.room_bytes / GIB for page in books.nodes[0].devices]


def test_one_sleeps_and_the_other_starts_after_it():
    result = asked(Cluster().model("a", 5.0).model("c", 6.0).engine("a"), "c")
    assert told(result) == [("sleep", "a"), ("start", "c")]
    sleep, start = result.steps
    assert (sleep.level, sleep.before, sleep.after) == (1, Phase.READY, Phase.ASLEEP)
    assert sleep.takes == Span(seconds=CHANGE_S + 2 * GIB / COPIES_BYTES_PER_S, assumed=True)
    assert start.begins == sleep.takes
    assert start.takes.seconds == START_S + 2 * GIB / READS_BYTES_PER_S
    [answer] = result.asked
    assert (answer.outcome, answer.before) == (Outcome.READY, Phase.STOPPED)
    assert answer.waits == sleep.takes.then(start.takes)
    assert "frees 4.6 GiB for c" in sleep.message
    assert room(result.before) == [3.0]
    assert [round(gib, 1) for gib in room(result.after)] == [1.6]


def test_what_was_measured_is_believed_and_not_marked():
    cluster = Cluster().model("a", 5.0).asleep("a")
    result = rehearse(*measured(cluster, "a", wake_s=0.75), NOW, ["a"])
    assert result.asked[0].waits == Span(seconds=0.75)
    assert told(result) == [("wake", "a")]


def test_a_model_that_is_ready_is_let_in_at_once():
    result = asked(Cluster().model("a").engine("a"), "a")
    assert (result.asked[0].outcome, result.asked[0].waits, result.steps) == (Outcome.READY, Span(), ())


def test_a_refusal_has_the_sum_and_no_step():
    result = asked(Cluster(reserve=0.5).model("a", 99.0).model("b").engine("b"), "a")
    [answer] = result.asked
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.CANNOT_FIT)
    assert answer.message == "Needs 99.0 GiB; gpu0 has 8.0 GiB - 512.0 MiB reserve = 7.5 GiB."
    assert result.steps == ()
    assert result.before == result.after


def test_requests_are_served_in_order_of_arrival():
    cluster = Cluster().model("a", 5.0).model("b", 6.0).model("c", 7.0)
    assert told(asked(cluster, "b", "a")) == [("start", "b"), ("sleep", "b"), ("start", "a")]
    assert told(asked(cluster, "a", "b")) == [("start", "a"), ("sleep", "a"), ("start", "b")]
    assert [answer.model for answer in asked(cluster, "c", "a", "b").asked] == ["c", "a", "b"]


def test_disjoint_devices_do_not_wait_for_each_other():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("b", 6.0)
    result = asked(cluster, "a", "b")
    assert [step.begins for step in result.steps] == [Span(), Span()]
    assert result.asked[0].waits == result.asked[1].waits


def test_requests_in_flight_end_nobody_knows_when():
    result = asked(Cluster().model("a", 5.0).model("c", 6.0).busy("a", requests=2), "c")
    assert told(result) == [("requests", "a"), ("sleep", "a"), ("start", "c")]
    assert result.steps[0].takes == Span(unknown=True)
    assert "2 requests in flight" in result.steps[0].message
    assert result.asked[0].waits.unknown
    assert result.asked[0].waits.seconds > START_S


def test_a_load_under_way_is_waited_for_first():
    cluster = Cluster().model("a", 5.0).model("c", 6.0)
    cluster.engine("a", state=Loading(progress_at=NOW), unused=10.0)
    desired, snapshot = measured(cluster, "a", load_s=12.0)
    result = rehearse(desired, snapshot, NOW, ["c"])
    assert told(result) == [("under_way", "a"), ("sleep", "a"), ("start", "c")]
    assert result.steps[0].takes == Span(seconds=2.0)
    assert result.steps[1].begins == Span(seconds=2.0)


@pytest.mark.parametrize(
    ("verb", "then"),
    [
        (Verb.SLEEP, [("under_way", "a"), ("start", "c")]),
        (Verb.STOP, [("under_way", "a"), ("start", "c")]),
        (Verb.START, [("under_way", "a"), ("sleep", "a"), ("start", "c")]),
    ],
)
def test_what_is_under_way_is_seen_to_its_end(verb, then):
    cluster = Cluster().model("a", 5.0).model("c", 6.0)
    if verb is not Verb.START:
        cluster.engine("a")
    cluster.operation(verb, "a", 0)
    assert told(asked(cluster, "c")) == then


def test_one_that_goes_down_comes_up_again_after_that():
    for verb, then in ((Verb.STOP, "start"), (Verb.SLEEP, "wake")):
        result = asked(Cluster().model("a", 5.0).engine("a").operation(verb, "a"), "a")
        assert told(result) == [("under_way", "a"), (then, "a")]


def test_its_own_load_under_way_is_all_that_it_waits_for():
    cluster = Cluster().model("a", 5.0).operation(Verb.START, "a", 0)
    result = rehearse(*measured(cluster, "a", load_s=5.0), NOW, ["a"])
    assert told(result) == [("under_way", "a")]
    assert (result.asked[0].outcome, result.asked[0].waits) == (Outcome.READY, Span(seconds=4.0))


def test_what_takes_longer_than_it_should_may_end_any_moment_or_not():
    cluster = Cluster().model("a", 5.0).engine("a", state=Loading(progress_at=NOW), unused=99.0)
    result = rehearse(*measured(cluster, "a", load_s=5.0), NOW, ["a"])
    assert result.asked[0].waits == Span(unknown=True)


def test_a_pause_after_a_failure_is_a_step():
    cluster = Cluster().model("a", 5.0)
    cluster.crashes["a"] = Crashes(count=3, last_at=NOW - 5, cause="CUDA out of memory")
    result = asked(cluster, "a")
    assert told(result) == [("pause", "a"), ("start", "a")]
    assert result.steps[0].takes == Span(seconds=35.0)
    assert result.steps[1].begins == Span(seconds=35.0)
    assert "CUDA out of memory" in result.steps[0].message


def test_nothing_foreseeable_helps_where_memory_is_unknown():
    result = asked(Cluster(unknown={0}).model("a"), "a")
    [answer] = result.asked
    assert (answer.outcome, answer.reason, answer.waits) == (Outcome.WAITS, Reason.DEVICE_UNKNOWN, Span(unknown=True))


def test_what_nothing_was_ever_known_of_takes_nobody_knows_how_long():
    desired, snapshot = Cluster().model("a").states()
    result = rehearse(desired, replace(snapshot, footprints={}), NOW, ["a"])
    assert result.asked[0].waits == Span(unknown=True)


def test_what_would_happen_without_the_request_is_marked():
    cluster = Cluster((8.0, 8.0)).model("a", 5.0).model("c", 6.0).model("z").engine("a").engine("z", 1)
    cluster.orders("z", WantStopped(at=NOW - 1))
    result = asked(cluster, "c")
    assert {step.model: step.anyway for step in result.steps if step.kind is StepKind.STOP} == {"z": True}
    assert [step.anyway for step in result.steps if step.model == "c"] == [False]
    assert next(step.takes for step in result.steps if step.model == "z") == Span(seconds=STOP_S, assumed=True)


@settings(max_examples=40)
@given(quiet_state(), st.data())
def test_where_nothing_else_is_going_on_it_is_what_settling_does(situation, data):
    """Its actions are those of `settle`, until the last who asked was let in or turned away."""
    order = data.draw(st.permutations(sorted(situation.desired.models)))[:3]
    result = rehearse(situation.desired, situation.snapshot, situation.now, order)
    wanted = requested(situation.desired, order, situation.now)
    plans = settle(wanted, situation.snapshot, situation.now)
    expected = [(type(action).__name__.lower(), action.model) for made in plans for action in made.actions]
    done = [step for step in told(result) if step[0] != "pause"]
    assert sorted(done) == sorted(expected[: len(done)])
    assert [answer.model for answer in result.asked] == list(order)


@settings(max_examples=60)
@given(st.one_of(any_state(), sane_state()), st.data())
def test_whatever_the_state_there_is_an_answer_and_no_device_does_two_things_at_once(situation, data):
    if not situation.desired.models:
        return
    model = data.draw(st.sampled_from(sorted(situation.desired.models)))
    result = rehearse(situation.desired, situation.snapshot, situation.now, [model])
    [answer] = result.asked
    assert answer.message
    over: dict[tuple, float] = {}
    for step in result.steps:
        assert step.takes.seconds >= 0
        for key in ((step.node, device) for device in step.devices):
            assert step.begins.seconds >= over.get(key, 0.0)
            over[key] = step.begins.seconds + step.takes.seconds
    if answer.outcome is Outcome.READY:
        pages = [page for node in result.after.nodes for page in node.devices]
        down = {Phase.ASLEEP, Phase.STOPPING, Phase.FAILED}  # of one that is awake an operation may tell another word
        up = {entry.model for page in pages for entry in page.engines if entry.phase not in down}
        up |= {entry.model for entry in result.after.astray}
        served = situation.desired.models[model].served_name  # by whichever of its replicas
        assert any(spec.served_name == served for name, spec in situation.desired.models.items() if name in up)
