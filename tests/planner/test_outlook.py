"""How long it takes until a model is ready: what is measured of it, and what is before it."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.planner.cluster import NOW, Cluster
from tests.strategies import any_state, sane_state
from vllama.domain.demand import KeepAlive
from vllama.domain.observed import Crashes, Loading, Verb
from vllama.domain.spec import IdleSpec, OnConflict
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.outlook import Doing, outlook, rests_in_s
from vllama.planner.timing import CHANGE_S, COPIES_BYTES_PER_S, START_S

SLEEP_S = CHANGE_S + 2 * GIB / COPIES_BYTES_PER_S


def seen(cluster: Cluster, model: str = "a", **measured):
    desired, snapshot = cluster.states()
    if measured:
        known = {name: replace(f, **measured) if name == model else f for name, f in snapshot.footprints.items()}
        snapshot = replace(snapshot, footprints=known)
    return outlook(desired, snapshot, plan(desired, snapshot, NOW), model, NOW)


def test_a_start_takes_as_long_as_it_did_and_else_what_is_usual():
    assert seen(Cluster().model("a", load_s=80.0).waits("a")).ready_in_s == 80.0
    unknown = seen(Cluster().model("a", weights=4.0).waits("a"))
    assert (unknown.doing, unknown.ready_in_s) == (Doing.LOADING, START_S + 2.0)


@pytest.mark.parametrize(("spent", "left"), [(30.0, 50.0), (79.0, 8.0), (500.0, 8.0)])
def test_what_is_spent_of_a_load_is_taken_off(spent, left):
    cluster = Cluster().model("a", load_s=80.0).engine("a", state=Loading(progress_at=NOW), unused=spent).waits("a")
    assert seen(cluster).ready_in_s == left
    assert seen(cluster).doing is Doing.LOADING


def test_a_wake_takes_as_long_as_it_did():
    cluster = Cluster().model("a").asleep("a").waits("a")
    assert seen(cluster, wake_s=3.0).ready_in_s == 3.0
    assert seen(cluster).ready_in_s == SLEEP_S
    assert seen(cluster).doing is Doing.WAKING
    under_way = seen(cluster.operation(Verb.WAKE, "a"), wake_s=3.0)
    assert (under_way.doing, under_way.ready_in_s) == (Doing.WAKING, 2.0)


def test_who_makes_room_for_it_goes_first():
    cluster = Cluster().model("a", 6.0, load_s=80.0).model("b", 3.0).model("c", 3.0).engine("b").engine("c").waits("a")
    found = seen(cluster)
    assert (found.doing, found.ready_in_s) == (Doing.MAKING_ROOM, 80.0 + 2 * SLEEP_S)
    assert "make room; then it starts" in found.why


def test_a_load_on_its_device_goes_first():
    cluster = Cluster((16.0,)).model("a", load_s=80.0).model("b", load_s=40.0)
    cluster.engine("b", state=Loading(progress_at=NOW), unused=10.0).waits("b", since=9).waits("a")
    assert seen(cluster).ready_in_s == 80.0 + 30.0


def test_busy_models_are_left_alone_until_the_fairness_bound():
    cluster = Cluster().model("a", 6.0, load_s=80.0).model("b", 6.0).busy("b").waits("a", since=10.0)
    assert seen(cluster).ready_in_s == pytest.approx(80.0 + SLEEP_S + 20.0)


def test_who_was_asked_for_before_comes_up_and_leaves_first():
    cluster = Cluster().model("a", 6.0, load_s=80.0).model("b", 6.0, load_s=40.0)
    cluster.waits("b", since=9.0).waits("a", since=1.0)
    assert seen(cluster).ready_in_s == pytest.approx(80.0 + 40.0 + SLEEP_S)


def test_who_is_drained_for_another_comes_back_after_it():
    cluster = Cluster().model("a", 6.0).model("b", 6.0, load_s=40.0).busy("a").waits("b", since=50.0)
    cluster.wants("a", admission_closed_at=NOW - 5.0, waiting=1, oldest_waiting_at=NOW - 1.0)
    found = seen(cluster)
    assert (found.doing, found.ready_in_s) == (Doing.QUEUEING, pytest.approx(SLEEP_S + 40.0 + 30.0 + SLEEP_S))


def test_the_pause_after_a_failure_goes_first():
    cluster = Cluster().model("a", load_s=80.0).waits("a")
    cluster.crashes["a"] = Crashes(count=2, last_at=NOW - 5.0, cause="CUDA out of memory")
    found = seen(cluster)
    assert (found.doing, found.ready_in_s) == (Doing.PAUSING, 80.0 + 15.0)
    assert "CUDA out of memory" in found.why


def test_what_is_refused_says_so():
    assert seen(Cluster().model("a", 99.0).waits("a")).refused


def test_who_displaces_nobody_may_come_back_when_somebody_rests():
    cluster = Cluster().model("a", 6.0, on_conflict=OnConflict.REFUSE).model("b", 6.0, idle=IdleSpec(sleep_after_s=700))
    cluster.engine("b", unused=600.0).waits("a")
    desired, snapshot = cluster.states()
    assert rests_in_s(desired, snapshot, NOW) == 100.0
    desired, snapshot = cluster.wants("b", keep_alive=KeepAlive(idle_s=650.0)).states()
    assert rests_in_s(desired, snapshot, NOW) == 50.0
    desired, snapshot = cluster.wants("b", keep_alive=KeepAlive(idle_s=None)).states()
    assert rests_in_s(desired, snapshot, NOW) is None
    desired, snapshot = cluster.wants("b", keep_alive=None, in_flight=1).states()
    assert rests_in_s(desired, snapshot, NOW) == 700.0


@settings(max_examples=100)
@given(any_state() | sane_state())
def test_any_state_has_an_outlook_for_every_model(situation):
    desired, snapshot, now = situation.desired, situation.snapshot, situation.now
    made = plan(desired, snapshot, now)
    for model in desired.models:
        assert 0 < outlook(desired, snapshot, made, model, now).ready_in_s < 1e5
    rests_in_s(desired, snapshot, now)
