"""A start that nobody waits for any more: given up before half of it is done, and seen through after that."""

from dataclasses import replace

import pytest

from tests.planner.cluster import NOW, Answer, Cluster
from vllama.domain.action import Stop
from vllama.domain.demand import WantReady
from vllama.domain.observed import Loading, Verb
from vllama.domain.reason import Reason

LOAD_S = 60.0


def loading(started: float = 20.0, *, part: float = 0.0, left: float | None = 6.0, load_s: float | None = LOAD_S):
    """`a` loads since `started` seconds, and whoever waited for it has left."""
    cluster = Cluster((8.0, 8.0)).model("a", load_s=load_s) if load_s else Cluster((8.0, 8.0)).model("a")
    cluster.engine("a", state=Loading(progress_at=NOW - 1, part=part), unused=started)
    return cluster.wants("a", last_used_at=None, left_at=None if left is None else NOW - left)


def test_it_is_stopped_before_half_of_the_measured_time():
    answer = loading(29.9).plan()
    assert answer.does == {"a": "Stop"}
    assert answer["a"].reason is Reason.ABANDONED
    assert "30s of about 1m into its start" in answer["a"].message
    stop = answer.actions["a"]
    assert isinstance(stop, Stop)
    assert not stop.cut


def test_from_half_of_it_on_it_is_seen_through_whatever_its_log_says():
    assert loading(30.0).plan().does == {}
    assert loading(500.0, part=0.1).plan()["a"].reason is Reason.STARTING


@pytest.mark.parametrize(("part", "does"), [(0.0, {"a": "Stop"}), (0.49, {"a": "Stop"}), (0.5, {})])
def test_what_was_never_measured_goes_by_its_stage(part, does):
    assert loading(500.0, part=part, load_s=None).plan().does == does


def test_who_broke_off_has_some_seconds_to_come_again():
    cluster = loading(left=1.0)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.STARTING
    assert answer.plan.requeue_after_s == 4.0
    assert cluster.plan(after=4.0).does == {"a": "Stop"}
    assert cluster.waits("a").plan(after=4.0).does == {}


def test_an_adopted_one_waits_as_long_for_those_whose_connections_broke():
    assert loading(left=None).wants("a", last_used_at=NOW - 4.9).plan().does == {}
    assert loading(left=None).wants("a", last_used_at=NOW - 5.0).plan().does == {"a": "Stop"}


def test_half_done_while_it_waits_for_the_last_seconds_to_pass():
    cluster = loading(27.0, left=1.0)
    assert cluster.plan().plan.requeue_after_s == 3.0
    assert cluster.plan(after=4.0).does == {}


def test_whatever_else_wants_it_keeps_it():
    assert loading().orders("a", WantReady(at=NOW - 20)).plan().does == {}
    assert loading().waits("a").plan().does == {}
    cluster = loading()
    cluster.models["a"] = replace(cluster.models["a"], pin=True)
    assert cluster.plan()["a"].reason is Reason.STARTING


def test_it_is_not_stopped_beside_an_operation_on_its_devices():
    cluster = loading().model("b", 2.0).engine("b").operation(Verb.STOP, "b")
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].waits_for == ("b",)
    assert answer["a"].reason is Reason.ABANDONED
    assert cluster.plan(after=answer.plan.requeue_after_s)["a"].reason is Reason.STARTING


def test_a_wake_under_way_and_a_spawn_under_way_go_on():
    cluster = Cluster().model("a", load_s=LOAD_S).asleep("a").operation(Verb.WAKE, "a").wants("a", left_at=NOW - 60)
    assert cluster.plan().does == {}
    cluster = Cluster().model("a", load_s=LOAD_S).operation(Verb.START, "a", 0).wants("a", left_at=NOW - 60)
    assert cluster.plan().does == {}


def test_what_others_wait_for_is_theirs_then():
    cluster = loading().model("b", 6.0, devices=(0,)).waits("b")
    answers = cluster.settle()
    assert [answer.does for answer in answers] == [{"a": "Stop"}, {"b": "Start"}, {}]
    assert isinstance(answers[0], Answer)
