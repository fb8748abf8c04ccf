"""What must happen to engines whoever asks: the dead, the unknown, the surplus, the outdated, the removed, the idle."""

from dataclasses import replace

import pytest

from tests.planner.cluster import NOW, Answer, Cluster, does
from vllama.domain.action import Stop
from vllama.domain.demand import KeepAlive
from vllama.domain.observed import Asleep, Awake, Broken, Exited, Loading, Unknown, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import IdleSpec, OnConflict, SleepLevel


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (Exited(code=0, cause="CUDA out of memory"), Reason.ENGINE_EXITED),
        (Broken(cause="wake_up failed"), Reason.ENGINE_BROKEN),
        (Unknown(since=NOW - 60, error="timeout"), Reason.PROBE_DEADLINE),
        (Loading(progress_at=NOW - 600), Reason.LOAD_STALLED),
    ],
)
def test_an_engine_that_failed_is_stopped_whatever_is_in_flight(state, reason):
    answer = Cluster().model("a").engine("a", state=state).wants("a", in_flight=2).plan()
    assert answer.does == {"a": "Stop"}
    assert answer["a"].reason is reason


def test_an_engine_that_does_not_answer_holds_its_memory_and_is_not_started_again():
    cluster = Cluster().model("a", 6.0).model("b", 6.0).engine("a", state=Unknown(since=NOW - 10, error="timeout"))
    answer = cluster.waits("a").waits("b").plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.STATE_UNKNOWN
    assert answer["b"].reason is Reason.NO_IDLE_VICTIM
    assert answer["b"].waits_for == ("a",)
    assert answer.plan.requeue_after_s == 50.0


def test_requests_at_an_engine_that_does_not_answer_probes_are_not_cut_before_its_deadline():
    """A probe that timed out says nothing about the streams that go on."""
    cluster = Cluster().model("a", 6.0, pin=False).engine("a", state=Unknown(since=NOW - 10, error="timeout"))
    cluster.wants("a", in_flight=1).model("a", 6.5)
    assert cluster.plan().does == {}
    assert cluster.plan(after=50.0).does == {"a": "Stop"}


def test_a_load_without_progress_is_looked_at_again_in_time():
    answer = Cluster().model("a").engine("a", state=Loading(progress_at=NOW - 100)).waits("a").plan()
    assert answer["a"].reason is Reason.STARTING
    assert answer.plan.requeue_after_s == 500.0


@pytest.mark.parametrize("removed", [False, True])
def test_loads_that_stalled_on_one_device_do_not_wait_for_each_other(removed):
    """An earlier manager may leave two that hang behind: neither was ready since, so both count as loading."""
    cluster = Cluster((16.0, 16.0))
    for name, devices in (("a", (0,)), ("b", (0, 1))):
        cluster = cluster if removed else cluster.model(name)
        cluster = cluster.engine(name, *devices, state=Loading(progress_at=NOW - 600))
    answer = cluster.plan()
    assert answer.does == {"a": "Stop"}
    assert answer["b"].waits_for == ("a",)


def test_one_that_stalled_waits_for_a_start_that_is_under_way_however_long_that_takes():
    cluster = Cluster((16.0,)).model("a").model("b").engine("b", state=Loading(progress_at=NOW - 600))
    cluster.engine("a", state=Loading(progress_at=NOW - 100)).operation(Verb.START, "a")
    for after in (0.0, 500.0, 5000.0):
        answer = cluster.plan(after=after)
        assert (answer.does, answer["b"].waits_for, answer.plan.requeue_after_s) == ({}, ("a",), None)


def test_nor_does_one_beside_an_engine_of_its_model_that_serves():
    cluster = Cluster((16.0,)).model("a").model("b").engine("a", state=Loading(progress_at=NOW - 600)).engine("a")
    answer = cluster.engine("b", state=Loading(progress_at=NOW - 600)).plan()
    assert answer.does == {"a": "Stop"}
    assert answer.actions["a"].engine_id == "a-0"


def test_the_better_of_two_engines_stays():
    cluster = Cluster((16.0,)).model("a").engine("a", state=Loading(progress_at=NOW)).engine("a").waits("a")
    answer = cluster.plan()
    assert answer["a"].reason is Reason.SURPLUS
    stop = answer.actions["a"]
    assert isinstance(stop, Stop)
    assert stop.engine_id == "a-0"


def test_of_two_awake_engines_the_surplus_one_is_drained_first():
    cluster = Cluster((16.0,)).model("a").busy("a").engine("a")
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].drain
    assert cluster.wants("a", in_flight=0).plan().does == {"a": "Stop"}


def test_changed_settings_restart_that_model_alone():
    cluster = Cluster((16.0,)).model("a").model("b").engine("a").engine("b").wants("a", in_flight=1)
    cluster.model("a", 4.5)
    answer = cluster.plan()
    assert answer["a"].reason is Reason.DRAINING
    assert answer["a"].drain
    assert answer["b"].reason is Reason.IDLE
    cluster.wants("a", in_flight=0, admission_closed_at=NOW - 5).waits("a")
    assert does(cluster.settle()) == [{"a": "Stop"}, {"a": "Start"}, {}]


def test_changed_settings_cut_nobody_the_model_opens_again_at_the_deadline():
    cluster = Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 120).model("a", 4.5)
    answer = cluster.plan()
    assert answer.does == {}
    assert not answer["a"].drain
    assert "takes requests again for a while" in answer["a"].message
    assert answer.plan.requeue_after_s == 30.0


def test_a_removed_model_finishes_and_goes():
    cluster = Cluster().engine("gone").wants("gone", in_flight=1)
    answer = cluster.plan()
    assert answer["gone"].reason is Reason.DRAINING
    assert answer["gone"].drain
    assert answer.plan.requeue_after_s == 120.0
    answer = cluster.wants("gone", in_flight=0).plan()
    assert answer["gone"].reason is Reason.REMOVED
    assert answer.does == {"gone": "Stop"}


def test_a_removed_model_is_cut_after_the_deadline():
    cluster = Cluster().engine("gone").wants("gone", in_flight=1, admission_closed_at=NOW - 119)
    assert cluster.plan().does == {}
    stop = cluster.plan(after=1.0).actions["gone"]
    assert isinstance(stop, Stop)
    assert stop.cut


def test_what_goes_idle_is_not_allowed_to_cut_a_request_that_slips_in():
    stop = Cluster().engine("gone").plan().actions["gone"]
    assert isinstance(stop, Stop)
    assert not stop.cut


def test_an_idle_model_sleeps_when_its_time_has_come():
    cluster = Cluster().model("a", idle=IdleSpec(sleep_after_s=700.0)).engine("a", unused=600)
    assert cluster.plan().plan.requeue_after_s == 100.0
    assert cluster.plan(after=99.0).does == {}
    assert cluster.plan(after=100.0).does == {"a": "Sleep 1"}


def test_what_a_request_said_counts_in_place_of_the_models_own_time():
    cluster = Cluster().model("a", idle=IdleSpec(sleep_after_s=700.0)).engine("a", unused=600)
    kept = cluster.wants("a", keep_alive=KeepAlive(idle_s=1000.0))
    assert kept.plan().plan.requeue_after_s == 400.0
    assert kept.plan(after=399.0).does == {}
    answer = kept.plan(after=400.0)
    assert answer.does == {"a": "Sleep 1"}
    assert "keep_alive is 16m40s" in answer["a"].message
    for_ever = cluster.wants("a", keep_alive=KeepAlive(idle_s=None)).plan(after=1e6)
    assert for_ever.does == {}
    assert for_ever.plan.requeue_after_s is None


def test_at_once_is_after_the_last_byte_and_not_before():
    cluster = Cluster().model("a").engine("a", unused=0.0).wants("a", keep_alive=KeepAlive(idle_s=0.0), in_flight=1)
    assert cluster.plan().does == {}
    assert cluster.wants("a", in_flight=0).plan().does == {"a": "Sleep 1"}


def test_a_pin_stays_whatever_a_request_says():
    cluster = Cluster().model("a", pin=True).engine("a").wants("a", keep_alive=KeepAlive(idle_s=0.0))
    assert cluster.plan()["a"].reason is Reason.PINNED


def test_a_sleeper_stops_when_its_time_has_come():
    cluster = Cluster().model("a", idle=IdleSpec(stop_after_s=700.0)).asleep("a", unused=600)
    assert cluster.plan().does == {}
    assert cluster.plan(after=100.0).does == {"a": "Stop"}


def test_an_idle_model_stops_where_the_copies_of_others_fill_the_host():
    cluster = Cluster((16.0,), host=3.0).model("a", idle=IdleSpec(sleep_after_s=60.0)).model("b")
    assert cluster.engine("a").asleep("b").plan().does == {"a": "Stop"}


def test_a_sleep_under_way_has_its_copy_counted():
    cluster = Cluster((16.0, 16.0), host=3.0).model("a", idle=IdleSpec(sleep_after_s=60.0)).model("b")
    cluster.engine("a").engine("b", 1).operation(Verb.SLEEP, "b")
    assert cluster.plan().does == {"a": "Stop"}


def test_a_sleeper_wakes_where_it_is():
    answers = Cluster().model("a", 6.0).asleep("a", level=2).waits("a").settle()
    assert does(answers) == [{"a": "Wake 2"}, {}]
    assert "5.6 GiB more" in answers[0]["a"].message


def test_a_sleeper_whose_device_is_taken_moves():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("fix", 6.0, pin=True).asleep("a").engine("fix").waits("a")
    answers = cluster.settle()
    assert does(answers) == [{"a": "Stop"}, {"a": "Start"}, {}]
    assert answers[0]["a"].reason is Reason.RELOCATED
    assert answers[1].actions["a"].devices == (1,)


def test_where_a_sleeper_moves_to_is_kept_for_it():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("fix", 6.0, pin=True).model("later", 6.0, devices=(1,))
    cluster.asleep("a").engine("fix").waits("a", since=9).waits("later", since=3)
    answers = cluster.settle()
    assert does(answers)[:2] == [{"a": "Stop"}, {"a": "Start"}]
    assert answers[0]["later"].waits_for == ("a",)


def test_a_sleeper_that_can_wake_nowhere_is_refused():
    cluster = Cluster().model("a", 6.0).model("fix", 6.0, pin=True).asleep("a").engine("fix").waits("a")
    answer = cluster.plan()
    assert answer["a"].reason is Reason.CANNOT_FIT
    assert answer["a"].refused


def before_it_where_it_sleeps() -> Cluster:
    """On gpu0 `first` has just become ready, and is about to serve who waits for it; gpu1 is free."""
    cluster = Cluster((8.0, 8.0)).model("a", 6.0, load_s=60.0).model("first", 6.0).asleep("a")
    return cluster.engine("first", unused=0).waits("first", since=9).waits("a", since=3)


def test_a_sleeper_waits_for_who_is_before_it_as_long_as_a_start_elsewhere_takes():
    cluster = before_it_where_it_sleeps()
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.NO_IDLE_VICTIM
    assert answer.plan.requeue_after_s == pytest.approx(60.0 - 1.1 - 3)
    later = cluster.plan(after=60.0)
    assert (later.does, later["a"].reason) == ({"a": "Stop"}, Reason.RELOCATED)


def test_a_sleeper_that_could_only_move_where_others_would_have_to_go_is_refused_if_it_may_displace_nobody():
    cluster = Cluster((8.0, 8.0)).model("a", 6.0, on_conflict=OnConflict.REFUSE).model("fix", 6.0, pin=True)
    cluster.model("b", 6.0).asleep("a").engine("fix").engine("b", 1).waits("a")
    answer = cluster.plan()
    assert (answer.does, answer["a"].reason, answer["a"].refused) == ({}, Reason.WOULD_EVICT, True)


def test_a_sleeper_does_not_move_because_a_reading_failed():
    cluster = Cluster((8.0, 8.0), unknown={0}).model("a", 6.0).asleep("a").waits("a")
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.DEVICE_UNKNOWN


def test_a_quiet_cluster_is_left_alone():
    cluster = Cluster((16.0,)).model("a").model("b").model("c").model("d", pin=True)
    cluster.engine("a").asleep("b").engine("d")
    answer = cluster.plan()
    assert answer.does == {}
    reasons = {decision.model: decision.reason for decision in answer.plan.decisions}
    assert reasons == {"a": Reason.IDLE, "b": Reason.SLEEPING, "c": Reason.NOT_WANTED, "d": Reason.PINNED}


def test_an_engine_on_a_machine_that_is_not_seen_harms_nobody():
    cluster = Cluster().model("a", 6.0).model("b", 6.0)
    cluster.engine("a", state=Asleep(level=SleepLevel.DISCARDED))
    desired, snapshot = cluster.waits("a").states()
    answer = Answer.of(desired, replace(snapshot, nodes=()), NOW)
    assert answer.does == {}
    assert not answer["a"].refused


def test_awake_counts_for_all_it_may_use_not_for_what_it_uses_now():
    cluster = Cluster().model("a", 6.0).model("c", 4.0).engine("a", state=Awake(ready_at=NOW), measured_bytes=1 << 30)
    assert cluster.wants("a", in_flight=1).waits("c").plan().does == {}
