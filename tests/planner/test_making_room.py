"""Who makes room, how, and how many."""

from tests.planner.cluster import Cluster, does
from vllama.domain.action import Sleep, Stop
from vllama.domain.demand import WantAsleep, WantReady
from vllama.domain.observed import Loading, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import OnConflict, SleepLevel


def three_on_one_gpu(gib: float) -> Cluster:
    return Cluster().model("a", gib).model("b", gib).model("c", gib)


def test_a_model_that_fits_starts_at_once():
    answer = Cluster().model("a", 3.5).waits("a", requests=2).plan()
    assert answer.does == {"a": "Start"}
    assert answer["a"].reason is Reason.DEMANDED
    assert "gpu0 with 3.5 GiB" in answer["a"].message
    assert "2 requests wait" in answer["a"].message


def test_the_least_recently_used_goes():
    answer = three_on_one_gpu(3.5).engine("a", unused=50).engine("b", unused=900).waits("c").plan()
    assert answer.does == {"b": "Sleep 1"}
    assert answer["b"].reason is Reason.EVICTED
    assert answer["c"].reason is Reason.MAKING_ROOM
    assert answer["c"].waits_for == ("b",)


def test_three_models_of_3_5_gib_share_8_gib_by_sleeping():
    answers = three_on_one_gpu(3.5).engine("a", unused=50).engine("b", unused=900).waits("c").settle()
    assert does(answers) == [{"b": "Sleep 1"}, {"c": "Start"}, {}]
    assert "sleeping at level 1 frees 3.1 GiB for c" in answers[0]["b"].message


def test_three_models_of_4_gib_cannot_and_the_message_has_the_sum():
    answers = three_on_one_gpu(4.0).engine("a", unused=50).engine("b", unused=900).waits("c").settle()
    assert does(answers) == [{"b": "Stop"}, {"c": "Start"}, {}]
    message = answers[0]["b"].message
    assert "must stop, not sleep: asleep it would still hold 409.6 MiB" in message
    assert "3.6 GiB would be free where c needs 4.0 GiB" in message


def test_no_more_go_than_are_needed():
    """In order of use `small` and then `large` would go; `large` alone is enough, so `small` is let off."""
    cluster = Cluster().model("small", 1.0).model("large", 5.0).model("c", 5.0)
    cluster.engine("small", unused=900).engine("large", unused=50).waits("c")
    assert cluster.plan().does == {"large": "Sleep 1"}


def test_all_that_were_taken_in_vain_before_the_one_that_is_enough_are_let_off():
    cluster = Cluster((16.0,)).model("c", 8.5).model("large", 8.0)
    for i in range(3):
        cluster.model(f"small{i}", 2.0).engine(f"small{i}", unused=900 - i)
    answers = cluster.engine("large", unused=100).waits("c").settle()
    assert does(answers) == [{"large": "Sleep 1"}, {"c": "Start"}, {}]


def test_a_sleeper_gives_up_its_residue():
    cluster = Cluster(residue=1.0).model("a", 4.0).model("c", 7.5).asleep("a").waits("c")
    answers = cluster.settle()
    assert does(answers) == [{"a": "Stop"}, {"c": "Start"}, {}]
    assert "Asleep, unused for 10m; stopping it frees 1.0 GiB for c." in answers[0]["a"].message


def test_a_sleeper_that_an_operator_put_there_gives_up_its_residue_too():
    cluster = Cluster(residue=1.0).model("a", 4.0).model("c", 7.5).asleep("a").orders("a", WantAsleep(at=9_000.0))
    assert cluster.plan().does == {}
    assert cluster.waits("c").plan().does == {"a": "Stop"}


def test_a_busy_model_does_not_go():
    answer = Cluster().model("a", 5.0).model("c", 5.0).busy("a").waits("c", since=5.0).plan()
    assert answer.does == {}
    assert answer["c"].reason is Reason.NO_IDLE_VICTIM
    assert answer["c"].waits_for == ("a",)
    assert not answer["a"].drain


def test_an_idle_model_goes_before_a_busy_one_however_lately_used():
    cluster = Cluster().model("a", 3.5).model("b", 3.5).model("c", 3.5)
    answer = cluster.busy("a", unused=900).engine("b", unused=1).waits("c").plan()
    assert answer.does == {"b": "Sleep 1"}


def test_a_pinned_model_does_not_go():
    answer = (
        Cluster()
        .model("a", 3.5, pin=True)
        .model("b", 3.5)
        .model("c", 3.5)
        .engine("a")
        .engine("b", unused=1)
        .waits("c")
        .plan()
    )
    assert answer.does == {"b": "Sleep 1"}
    assert answer["a"].reason is Reason.PINNED


def test_a_model_that_is_about_to_serve_who_waited_for_it_does_not_go():
    """Ready, its waiters not yet let in: it has not been of use to anybody."""
    cluster = Cluster().model("a", 5.0).model("c", 5.0).engine("a").waits("a", since=2.0).waits("c", since=5.0)
    assert cluster.plan().does == {}


def test_where_sleeping_frees_nothing_the_victim_stops():
    cluster = Cluster(sleep_frees_memory=False).model("a", 5.0).model("c", 5.0).engine("a").waits("c")
    answers = cluster.settle()
    assert does(answers) == [{"a": "Stop"}, {"c": "Start"}, {}]
    assert "sleeping frees nothing here" in answers[0]["a"].message


def test_on_memory_that_is_the_hosts_own_the_victim_stops():
    cluster = Cluster(unified=True).model("a", 5.0, eviction_level=SleepLevel.WEIGHTS_OFFLOADED).model("c", 5.0)
    answers = cluster.engine("a").waits("c").settle()
    assert does(answers) == [{"a": "Stop"}, {"c": "Start"}, {}]
    assert "its memory is the host's own: level 1 would free nothing" in answers[0]["a"].message


def test_on_memory_that_is_the_hosts_own_level_2_frees_what_it_frees_elsewhere():
    cluster = Cluster(unified=True).model("a", 5.0, eviction_level=SleepLevel.DISCARDED).model("c", 5.0)
    answer = cluster.engine("a").waits("c").plan()
    assert answer["a"].action == Sleep(
        model="a", engine_id="a-0", node="here", devices=(0,), level=SleepLevel.DISCARDED
    )  # fmt: skip


def test_without_host_memory_for_its_copy_the_victim_stops():
    cluster = Cluster(host=2.0).model("a", 5.0, weights=4.0).model("c", 5.0).engine("a").waits("c")
    answer = cluster.plan()
    assert answer.does == {"a": "Stop"}
    assert "its copy takes 6.0 GiB of host memory, where 2.0 GiB is left" in answer["a"].message


def test_host_memory_for_one_copy_is_not_given_to_two_sleepers_in_one_pass():
    cluster = Cluster((8.0, 8.0), host=6.0).model("c", 6.0, device_count=2)
    for device, name in enumerate("ab"):
        cluster.model(name, 6.0, weights=4.0).engine(name, device)
    answer = cluster.waits("c").plan()
    assert sorted(answer.does.values()) == ["Sleep 1", "Stop"]


def test_level_2_needs_no_host_memory():
    cluster = Cluster(host=0.0).model("a", 5.0, eviction_level=SleepLevel.DISCARDED).model("c", 5.0)
    assert cluster.engine("a").waits("c").plan().does == {"a": "Sleep 2"}


def test_a_model_that_may_not_displace_anybody_is_refused():
    cluster = Cluster().model("a", 5.0).model("c", 5.0, on_conflict=OnConflict.REFUSE).engine("a").waits("c")
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["c"].reason is Reason.WOULD_EVICT
    assert answer["c"].refused


def test_one_at_a_time_on_a_device_and_the_next_victim_takes_no_requests_meanwhile():
    cluster = Cluster().model("a", 3.5).model("b", 3.5).model("c", 7.0).engine("a", unused=99).engine("b").waits("c")
    answers = cluster.settle()
    assert does(answers) == [{"b": "Sleep 1"}, {"a": "Sleep 1"}, {"c": "Start"}, {}]
    assert answers[0]["a"].reason is Reason.EVICTED
    assert answers[0]["a"].drain
    assert answers[0]["a"].waits_for == ("b",)


def test_while_the_first_of_its_victims_goes_a_waiter_does_not_turn_to_other_devices():
    """Else the model on gpu1 would be displaced as well, and the first eviction was in vain."""
    cluster = Cluster((8.0, 8.0)).model("a", 3.5).model("b", 3.5).model("c", 7.0).model("d", 7.0)
    cluster.engine("a", unused=900).engine("b", unused=800).engine("d", 1, unused=700).waits("c")
    assert cluster.plan().does == {"a": "Sleep 1"}
    answer = cluster.operation(Verb.SLEEP, "a").plan()
    assert answer.does == {}
    assert answer["c"].reason is Reason.DEVICE_BUSY
    assert answer["d"].reason is Reason.IDLE


def test_victims_on_different_devices_go_at_the_same_time():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("b", 6.0).model("c", 6.0, device_count=2)
    cluster.engine("a", 0).engine("b", 1).waits("c")
    assert does(cluster.settle()) == [{"a": "Sleep 1", "b": "Sleep 1"}, {"c": "Start"}, {}]


def test_different_devices_are_served_at_the_same_time():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("b", 6.0).waits("a").waits("b")
    answer = cluster.plan()
    assert answer.does == {"a": "Start", "b": "Start"}
    assert {action.devices for action in answer.actions.values()} == {(0,), (1,)}


def test_one_start_at_a_time_on_a_device():
    cluster = Cluster((16.0,)).model("a", 4.0).model("b", 4.0).waits("a", since=5).waits("b", since=4)
    answers = cluster.settle()
    assert does(answers) == [{"a": "Start"}, {"b": "Start"}, {}]
    assert answers[0]["b"].reason is Reason.DEVICE_BUSY
    assert answers[0]["b"].waits_for == ("a",)


def test_nothing_is_done_on_a_device_while_another_engine_loads_there():
    cluster = Cluster((16.0,)).model("a", 4.0).model("b", 4.0).engine("a", state=Loading(progress_at=9_999.0))
    answer = cluster.waits("a").waits("b").plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.STARTING
    assert answer["b"].waits_for == ("a",)


def test_a_waiter_that_needs_a_sleeper_gone_is_not_stopped_by_its_being_waited_for_later():
    """Neither waits for the other: the first takes the sleeper's residue, the sleeper starts anew after it."""
    cluster = Cluster(residue=1.0).model("s", 4.0).model("c", 7.5).asleep("s")
    answers = cluster.waits("c", since=9).waits("s", since=3).settle()
    assert does(answers) == [{"s": "Stop"}, {"c": "Start"}, {"c": "Sleep 1"}, {"s": "Start"}, {}]


def test_a_sleeper_that_is_to_make_room_for_an_earlier_waiter_does_not_wake_first():
    cluster = Cluster((12.0,), residue=1.0).model("a", 6.0).model("s", 1.5).model("c", 11.4)
    cluster.busy("a").asleep("s").waits("c", since=9).waits("s", since=3)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["s"].reason is Reason.ROOM_RESERVED
    assert answer["s"].waits_for == ("c",)


def test_a_start_by_an_operator_counts_as_one_request():
    answers = Cluster().model("a").orders("a", WantReady(at=9_999.0)).settle()
    assert does(answers) == [{"a": "Start"}, {}]
    assert answers[-1]["a"].reason is Reason.IDLE


def test_the_stop_of_a_victim_may_not_cut():
    cluster = Cluster(residue=1.0).model("a", 4.0).model("c", 7.5).asleep("a").waits("c")
    stop = cluster.plan().actions["a"]
    assert isinstance(stop, Stop)
    assert not stop.cut
