"""What an operator's wish would lead to is what the loop would do, should it be wished."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state, quiet_state, sane_state
from vllama.domain.demand import WantAsleep, WantReady, WantStopped
from vllama.domain.observed import Crashes, Loading, Unknown, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase
from vllama.planner.project import settle
from vllama.planner.rehearse import Outcome, Rehearsal, rehearse, rehearse_wish
from vllama.planner.suppose import wished
from vllama.planner.timing import STOP_S, Span

STOP, ASLEEP, READY = WantStopped(at=NOW), WantAsleep(at=NOW), WantReady(at=NOW)


def wish(cluster: Cluster, model: str, what) -> Rehearsal:
    return rehearse_wish(*cluster.states(), NOW, model, what)


def told(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    return [(step.kind.value, step.model) for step in rehearsal.steps]


def room(books) -> list[int]:
    return [page.room_bytes for page in books.nodes[0].devices]


def test_a_stop_frees_the_memory_and_takes_its_time():
    result = wish(Cluster().model("a", 5.0).engine("a"), "a", STOP)
    assert told(result) == [("stop", "a")]
    [answer] = result.asked
    assert (answer.outcome, answer.before, answer.reason) == (Outcome.PUT_DOWN, Phase.READY, Reason.OPERATOR_ASKED)
    assert answer.waits == Span(seconds=STOP_S, assumed=True)
    assert room(result.after)[0] > room(result.before)[0]


def test_a_sleep_is_at_the_level_that_was_asked_for():
    cluster = Cluster().model("a", 5.0, weights=2.0).engine("a")
    [step] = wish(cluster, "a", replace(ASLEEP, level=SleepLevel(1))).steps
    assert (step.kind.value, step.level, step.after) == ("sleep", 1, Phase.ASLEEP)
    [step] = wish(cluster, "a", replace(ASLEEP, level=SleepLevel(3))).steps
    assert (step.kind.value, step.after) == ("stop", Phase.STOPPED)


def test_who_waits_for_room_comes_up_in_what_a_stop_leaves():
    result = wish(Cluster().model("a", 5.0).model("c", 6.0).busy("a").waits("c"), "a", STOP)
    assert told(result) == [("requests", "a"), ("stop", "a"), ("start", "c")]
    assert "what is left is cut" in result.steps[0].message
    assert result.steps[0].takes == Span(unknown=True)


def test_requests_in_flight_are_not_cut_by_a_sleep():
    result = wish(Cluster().model("a", 5.0).busy("a", requests=2), "a", ASLEEP)
    assert told(result) == [("requests", "a"), ("sleep", "a")]
    assert result.steps[0].message.startswith("Its 2 requests in flight end; nobody knows when.")
    assert "takes requests again" in result.steps[0].message


def test_a_start_is_as_a_request_and_begins_after_a_failure_at_once():
    cluster = Cluster().model("a", 5.0).model("c", 6.0).engine("a")
    assert wish(cluster, "c", READY) == rehearse(*cluster.states(), NOW, ["c"])
    cluster.crashes["c"] = Crashes(count=3, last_at=NOW - 5, cause="CUDA out of memory")
    assert told(wish(cluster, "c", READY)) == [("sleep", "a"), ("start", "c")]


def test_a_start_brings_back_what_is_pinned_and_was_stopped():
    cluster = Cluster().model("a", 5.0, pin=True).orders("a", WantStopped(at=NOW - 9))
    assert told(rehearse(*cluster.states(), NOW, ["a"])) == []
    result = wish(cluster, "a", READY)
    assert told(result) == [("start", "a")]
    assert [step.anyway for step in result.steps] == [False]
    assert result.asked[0].outcome is Outcome.READY


def test_a_load_is_stopped_and_not_waited_for():
    cluster = Cluster().model("a", 5.0).engine("a", state=Loading(progress_at=NOW)).waits("a")
    assert told(wish(cluster, "a", STOP)) == [("stop", "a")]


def test_what_is_down_stays_down():
    for what in (STOP, ASLEEP):
        result = wish(Cluster().model("a", 5.0), "a", what)
        assert (told(result), result.asked[0].outcome) == ([], Outcome.PUT_DOWN)
        assert result.asked[0].reason is Reason.HELD_BY_OPERATOR
    result = wish(Cluster().model("a", 5.0).asleep("a"), "a", ASLEEP)
    assert (told(result), result.asked[0].outcome) == ([], Outcome.PUT_DOWN)
    assert told(wish(Cluster().model("a", 5.0).asleep("a"), "a", STOP)) == [("stop", "a")]


def test_what_is_under_way_on_its_device_is_over_first():
    cluster = Cluster().model("a", 3.0).model("b", 3.0).asleep("a").operation(Verb.START, "b", 0)
    assert told(wish(cluster, "a", STOP)) == [("under_way", "b"), ("stop", "a")]


def test_an_engine_that_does_not_answer_is_put_to_sleep_nobody_knows_when():
    cluster = Cluster().model("a", 5.0).engine("a", state=Unknown(since=NOW - 1, error="timed out"))
    [answer] = wish(cluster, "a", ASLEEP).asked
    assert (answer.outcome, answer.waits) == (Outcome.WAITS, Span(unknown=True))


def test_a_stop_takes_down_every_replica():
    cluster = Cluster((8.0, 8.0)).model("a", 5.0, replicas=2).engine("a").engine("a#2", 1)
    result = wish(cluster, "a", STOP)
    assert sorted(told(result)) == [("stop", "a"), ("stop", "a#2")]
    assert result.asked[0].outcome is Outcome.PUT_DOWN


@settings(max_examples=40)
@given(quiet_state(), st.data())
def test_where_nothing_else_is_going_on_it_is_what_settling_does(situation, data):
    if not situation.desired.models:
        return
    model = situation.desired.models[data.draw(st.sampled_from(sorted(situation.desired.models)))].served_name
    what = data.draw(st.sampled_from([STOP, ASLEEP]))
    what = replace(what, at=situation.now)
    result = rehearse_wish(situation.desired, situation.snapshot, situation.now, model, what)
    then = wished(situation.desired, situation.snapshot, model, what)
    expected = [(type(a).__name__.lower(), a.model) for p in settle(*then, situation.now) for a in p.actions]
    done = [
        (step.kind.value, step.model) for step in result.steps if step.kind.value in {"start", "wake", "sleep", "stop"}
    ]
    assert done[: len(expected)] == expected or sorted(done) == sorted(expected)


@pytest.mark.parametrize("what", [STOP, ASLEEP, READY])
@settings(max_examples=30)
@given(st.one_of(any_state(), sane_state()), st.data())
def test_whatever_the_state_there_is_an_answer(what, situation, data):
    if not situation.desired.models:
        return
    model = situation.desired.models[data.draw(st.sampled_from(sorted(situation.desired.models)))].served_name
    result = rehearse_wish(situation.desired, situation.snapshot, situation.now, model, replace(what, at=situation.now))
    [answer] = result.asked
    assert answer.model == model
    assert answer.message
