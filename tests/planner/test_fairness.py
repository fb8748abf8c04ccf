"""Busy engines, and who waits for them: bound, drain, deadline, reopening, rest."""

from tests.planner.cluster import NOW, Cluster
from vllama.domain.observed import Loading, Verb
from vllama.domain.reason import Reason


def one_waits_for_a_busy_one(since: float) -> Cluster:
    return Cluster().model("a", 6.0).model("c", 6.0).busy("a").waits("c", since=since)


def test_before_the_bound_a_busy_model_goes_on_and_time_is_told():
    answer = one_waits_for_a_busy_one(29.0).plan()
    assert answer["c"].reason is Reason.NO_IDLE_VICTIM
    assert not answer["a"].drain
    assert answer.plan.requeue_after_s == 1.0


def test_at_the_bound_it_takes_no_new_requests():
    answer = one_waits_for_a_busy_one(30.0).plan()
    assert answer.does == {}
    assert answer["c"].reason is Reason.DRAINING_OTHERS
    assert answer["a"].reason is Reason.DRAINED_FOR_WAITER
    assert answer["a"].drain
    assert answer.plan.requeue_after_s == 120.0


def test_arrivals_at_the_drained_model_do_not_open_it_again():
    cluster = one_waits_for_a_busy_one(50.0).wants("a", admission_closed_at=NOW - 20).waits("a", since=10.0)
    assert cluster.plan()["a"].drain


def test_when_the_last_request_has_ended_it_goes():
    cluster = one_waits_for_a_busy_one(50.0).wants("a", admission_closed_at=NOW - 20, in_flight=0)
    assert cluster.waits("a", since=10.0).plan().does == {"a": "Sleep 1"}


def test_at_the_deadline_it_opens_again_and_nothing_is_cut():
    cluster = one_waits_for_a_busy_one(150.0).wants("a", admission_closed_at=NOW - 120)
    assert cluster.plan(after=-1.0)["a"].drain
    answer = cluster.plan()
    assert answer.does == {}
    assert not answer["a"].drain
    assert answer["c"].reason is Reason.NO_IDLE_VICTIM


def test_after_a_drain_in_vain_it_rests_before_the_next():
    cluster = one_waits_for_a_busy_one(150.0).wants("a", drain_ended_at=NOW - 10)
    answer = cluster.plan()
    assert not answer["a"].drain
    assert answer.plan.requeue_after_s == 20.0
    assert cluster.plan(after=20.0)["a"].drain


def a_pair_waits_for_an_idle_and_a_busy_one() -> Cluster:
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("b", 6.0).model("c", 6.0, device_count=2)
    return cluster.busy("a", 0).engine("b", 1).waits("c", since=40.0)


def test_the_idle_fellow_of_a_drained_model_is_closed_too():
    answer = a_pair_waits_for_an_idle_and_a_busy_one().plan()
    assert answer["a"].drain
    assert answer["b"].drain


def test_the_idle_fellow_stays_closed_until_all_have_drained_whoever_waits_for_it():
    cluster = a_pair_waits_for_an_idle_and_a_busy_one()
    cluster.wants("a", admission_closed_at=NOW - 5).wants("b", admission_closed_at=NOW - 5).waits("b", since=3.0)
    answer = cluster.plan()
    assert answer["b"].drain
    assert answer["a"].drain
    assert cluster.wants("a", in_flight=0).plan().does == {"a": "Sleep 1", "b": "Sleep 1"}


def two_drained_on_one_device() -> Cluster:
    cluster = Cluster().model("a", 3.5).model("b", 3.5).model("c", 7.0).engine("a").engine("b", unused=1)
    for name in "ab":
        cluster.wants(name, admission_closed_at=NOW - 5)
    return cluster.waits("c", since=50.0).waits("b", since=3.0)


def test_the_second_of_two_drained_on_one_device_stays_closed_while_the_first_goes():
    cluster = two_drained_on_one_device()
    answer = cluster.plan()
    assert answer.does == {"a": "Sleep 1"}
    assert answer["b"].drain
    answer = cluster.operation(Verb.SLEEP, "a").plan()
    assert answer.does == {}
    assert answer["b"].drain
    assert answer["c"].reason is Reason.DEVICE_BUSY


def test_a_drained_model_stays_closed_while_something_else_holds_its_device():
    cluster = Cluster((12.0,)).model("x", 3.0).model("a", 6.0).model("c", 6.0)
    cluster.engine("x", state=Loading(progress_at=NOW)).engine("a").wants("a", admission_closed_at=NOW - 5)
    answer = cluster.waits("c", since=50.0).plan()
    assert answer["c"].reason is Reason.DEVICE_BUSY
    assert answer["a"].drain


def test_an_open_model_stays_open_while_its_displacer_waits_for_the_device():
    cluster = Cluster((12.0,)).model("x", 3.0).model("a", 6.0).model("c", 6.0)
    cluster.engine("x", state=Loading(progress_at=NOW)).engine("a").waits("c", since=50.0)
    assert not cluster.plan()["a"].drain


def test_a_drain_that_is_on_is_kept_to_when_one_of_its_models_has_just_ended():
    """`a` ended this very second, so the pair gpu2, gpu3 would now be the least recently used."""
    cluster = Cluster((8.0,) * 4).model("c", 6.0, device_count=2)
    for device, name in enumerate("abde"):
        cluster.model(name, 6.0).busy(name, device, unused=50 - device)
    for name in "ab":
        cluster.wants(name, admission_closed_at=NOW - 5)
    cluster.wants("a", in_flight=0, last_used_at=NOW)
    answer = cluster.waits("c", since=60.0).plan()
    assert [d.model for d in answer.plan.decisions if d.drain] == ["a", "b"]


def test_when_the_waiter_has_gone_the_door_opens():
    cluster = Cluster().model("a", 6.0).busy("a").wants("a", admission_closed_at=NOW - 5)
    assert not cluster.plan()["a"].drain


def test_of_two_busy_ones_the_one_that_nobody_waits_for_is_drained():
    cluster = Cluster((12.0,)).model("a", 5.0).model("b", 5.0).model("c", 6.0).waits("c", since=40.0)
    cluster.busy("a", unused=20.0).waits("a", since=3.0).busy("b", unused=1.0)
    answer = cluster.plan()
    assert (answer["a"].drain, answer["b"].drain) == (False, True)
    assert answer["c"].waits_for == ("b",)
