"""Several engines of one model: one leads, the others take what is free and are the first to go."""

from dataclasses import replace

from tests.planner.cluster import NOW, Cluster, does
from vllama.domain.demand import KeepAlive, WantReady, WantStopped
from vllama.domain.observed import Exited, Loading, Unknown, Verb
from vllama.domain.reason import Reason


def two(*, gpus: tuple[float, ...] = (24.0, 24.0), **spec) -> Cluster:
    return Cluster(gpus=gpus).model("a", 20, replicas=2, **spec).model("b", 20).model("c", 20)


def awake(unused: float = 2.0, **spec) -> Cluster:
    return two(**spec).engine("a", 0, unused=unused).engine("a#2", 1, unused=unused)


def test_the_second_starts_when_the_first_is_up_and_on_another_device():
    settled = two(gpus=(48.0, 48.0)).waits("a").settle()
    assert does(settled) == [{"a": "Start"}, {"a#2": "Start"}, {}]
    assert {answer.actions[name].devices for answer in settled for name in answer.actions} == {(0,), (1,)}


def test_both_on_one_device_where_there_is_no_other():
    assert does(two(gpus=(48.0,)).waits("a").settle()) == [{"a": "Start"}, {"a#2": "Start"}, {}]


def test_nobody_asks_for_it_and_nothing_starts():
    assert does(two().settle()) == [{}]
    rested = two().asleep("a", 0, unused=3600)
    assert does(rested.settle()) == [{}]


def test_requests_wake_one_and_then_the_other():
    assert does(two().asleep("a", 0).asleep("a#2", 1).waits("a").settle()) == [{"a": "Wake 1"}, {"a#2": "Wake 1"}, {}]


def test_of_two_that_sleep_the_one_wakes_that_is_in_nobodys_way():
    made = two().asleep("a", 0).asleep("a#2", 1).busy("b", 0).waits("a").plan()
    assert made.does == {"a#2": "Wake 1"}


def test_an_idle_spare_goes_before_the_last_engine_of_another_however_recent():
    made = two(gpus=(24.0, 24.0, 24.0)).engine("a", 0, unused=1).engine("a#2", 1, unused=1)
    made.engine("b", 2, unused=900).waits("c")
    assert made.plan().does == {"a#2": "Sleep 1"}
    assert made.plan()["c"].waits_for == ("a#2",)


def test_also_beside_it_on_the_same_device():
    made = two(gpus=(62.0,)).engine("a", 0, unused=1).engine("a#2", 0, unused=1).engine("b", 0, unused=900)
    assert made.waits("c").plan().does == {"a#2": "Sleep 1"}


def test_the_spare_is_the_idle_one():
    cluster = awake().wants("a#2", in_flight=3).waits("c")
    assert cluster.plan().does == {"a": "Sleep 1"}


def test_a_load_of_a_spare_is_broken_off_for_who_waits():
    cluster = two().engine("a", 0, unused=1).engine("a#2", 1, state=Loading(progress_at=NOW - 3)).waits("c")
    assert does(cluster.settle()) == [{"a#2": "Stop"}, {"c": "Start"}, {}]
    small = Cluster(gpus=(20.0, 24.0)).model("a", 8, replicas=2).model("c", 14)
    small.engine("a", 0, unused=1).engine("a#2", 1, state=Loading(progress_at=NOW - 3)).waits("c")
    assert small.plan().does == {"a#2": "Stop"}  # it has the memory, but not the device


def test_the_load_of_the_only_engine_is_not():
    cluster = two(gpus=(24.0,)).engine("a", 0, state=Loading(progress_at=NOW - 3)).waits("a").waits("c", 2.0)
    assert cluster.plan().does == {}


def test_a_further_one_displaces_neither_the_idle_nor_the_asleep():
    cluster = two().engine("a", 0, unused=1).wants("a", in_flight=40).engine("b", 1, unused=1000)
    assert cluster.plan().does == {}
    assert cluster.plan()["a#2"].reason is Reason.NO_FREE_ROOM
    sleeper = Cluster(gpus=(24.0, 24.0)).model("a", 23.8, replicas=2).model("b", 20)
    sleeper.engine("a", 0, unused=1).asleep("b", 1)
    assert sleeper.plan().does == {}


def test_nothing_further_begins_while_somebody_waits_for_room():
    cluster = Cluster(gpus=(24.0, 24.0)).model("a", 10, replicas=2).model("b", 8).model("c", 20)
    cluster.engine("a", 0, unused=1).wants("a", in_flight=1).busy("b", 1).waits("c")
    assert cluster.plan().does == {}
    assert "c is waited for" in cluster.plan()["a#2"].message


def test_they_rest_with_their_model_and_not_before():
    long_request = awake(unused=2000).wants("a", in_flight=1)
    assert long_request.plan().does == {}
    assert does(awake(unused=2000).settle()) == [{"a": "Sleep 1", "a#2": "Sleep 1"}, {}]
    one_used = two().engine("a", 0, unused=2000).engine("a#2", 1, unused=5)
    assert one_used.plan().does == {}


def test_what_a_request_said_of_its_model_is_said_of_all():
    cluster = awake(unused=20).wants("a", keep_alive=KeepAlive(idle_s=10.0))
    assert cluster.plan().does == {"a": "Sleep 1", "a#2": "Sleep 1"}


def test_a_stop_is_for_all_and_a_request_beats_it_for_all():
    stopped = awake().orders("a", WantStopped(at=NOW - 1))
    assert stopped.plan().does == {"a": "Stop", "a#2": "Stop"}
    again = two().asleep("a", 0).asleep("a#2", 1).orders("a", WantStopped(at=NOW - 5)).waits("a", 1.0)
    assert again.plan().does == {"a": "Wake 1"}


def test_a_start_is_one_request():
    assert does(two().orders("a", WantReady(at=NOW - 1)).settle()) == [{"a": "Start"}, {"a#2": "Start"}, {}]


def test_a_pin_keeps_one_and_the_other_makes_room():
    cluster = awake(pin=True).waits("c")
    assert does(cluster.settle())[:2] == [{"a#2": "Sleep 1"}, {"c": "Start"}]
    assert awake(unused=9000, pin=True).plan().does == {}


def test_one_that_died_is_cleaned_up_and_comes_back_beside_the_other():
    cluster = awake().wants("a#2", in_flight=5)
    cluster.engines[0] = replace(cluster.engines[0], state=Exited(code=-9, cause="killed"))
    assert cluster.plan().does == {"a": "Stop"}
    later = two().engine("a#2", 1, unused=1).wants("a#2", in_flight=5)
    assert later.plan().does == {"a": "Start"}


def test_an_engine_of_unknown_state_is_no_reason_to_displace_anybody_for_another():
    cluster = two().engine("a", 0, state=Unknown(since=NOW - 5, error="timeout")).engine("b", 1).waits("a")
    assert cluster.plan().does == {}


def test_while_one_is_drained_who_waits_is_counted_once():
    cluster = awake().wants("a", admission_closed_at=NOW - 5, in_flight=1, waiting=2, oldest_waiting_at=NOW - 3)
    made = cluster.plan()
    assert made.does == {}
    assert not made["a#2"].drain


def test_one_too_many_goes_and_says_which_file_says_so():
    cluster = Cluster(gpus=(24.0, 24.0)).model("a", 20).engine("a", 0).engine("a#2", 1)
    made = cluster.plan()
    assert made.does == {"a#2": "Stop"}
    assert "models.yaml wants 1 of a, and this is number 2" in made["a#2"].message


def test_a_change_under_way_on_one_holds_only_its_own_devices():
    cluster = awake().operation(Verb.SLEEP, "a#2")
    assert cluster.plan()["a#2"].reason in {Reason.DRAINING, Reason.GOING_DOWN}
    assert cluster.plan()["a"].reason is Reason.IDLE
