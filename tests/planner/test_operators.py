"""`vllama start`, `stop` and `sleep`: they write into the desired state, and these are the consequences."""

from tests.planner.cluster import NOW, Cluster, does
from vllama.domain.action import Stop
from vllama.domain.demand import WantAsleep, WantReady, WantStopped
from vllama.domain.observed import Loading, Unknown
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel


def test_stop_stops():
    answers = Cluster().model("a").engine("a").orders("a", WantStopped(at=NOW - 1)).settle()
    assert does(answers) == [{"a": "Stop"}, {}]
    assert answers[0]["a"].reason is Reason.OPERATOR_ASKED
    assert answers[1]["a"].reason is Reason.HELD_BY_OPERATOR


def test_stop_lets_requests_finish_and_cuts_them_after_the_deadline():
    cluster = Cluster().model("a").busy("a").orders("a", WantStopped(at=NOW - 1))
    assert cluster.plan()["a"].drain
    cluster.wants("a", admission_closed_at=NOW - 1)
    assert cluster.plan(after=118.0).does == {}
    stop = cluster.plan(after=119.0).actions["a"]
    assert isinstance(stop, Stop)
    assert stop.cut


def test_stop_cuts_a_model_with_changed_settings_too():
    cluster = Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 120).model("a", 4.5)
    assert cluster.orders("a", WantStopped(at=NOW - 121)).plan().does == {"a": "Stop"}


def test_stop_cancels_a_load():
    cluster = Cluster().model("a").engine("a", state=Loading(progress_at=NOW)).waits("a", since=5)
    answer = cluster.orders("a", WantStopped(at=NOW - 1)).plan()
    assert answer.does == {"a": "Stop"}
    assert answer["a"].refused


def test_who_waited_when_stop_came_is_told_so_at_once():
    cluster = Cluster().model("a").busy("a").waits("a", since=5).orders("a", WantStopped(at=NOW - 1))
    assert cluster.plan()["a"].refused


def test_a_later_request_wins_over_stop():
    cluster = Cluster().model("a").orders("a", WantStopped(at=NOW - 5))
    assert cluster.plan()["a"].reason is Reason.HELD_BY_OPERATOR
    assert cluster.waits("a", since=1).plan().does == {"a": "Start"}


def test_a_pinned_model_stays_stopped_until_start():
    cluster = Cluster().model("a", pin=True).orders("a", WantStopped(at=NOW - 5)).waits("a", since=1)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["a"].refused
    assert cluster.orders("a", WantReady(at=NOW)).plan().does == {"a": "Start"}


def test_a_stopped_pin_makes_room_for_others():
    cluster = Cluster().model("a", 6.0, pin=True).model("c", 6.0).asleep("a")
    assert cluster.orders("a", WantAsleep(at=NOW - 5)).waits("c").plan().does == {"c": "Start"}


def test_sleep_sleeps_at_the_level_asked():
    cluster = Cluster().model("a").engine("a").orders("a", WantAsleep(at=NOW - 1, level=SleepLevel.DISCARDED))
    answers = cluster.settle()
    assert does(answers) == [{"a": "Sleep 2"}, {}]
    assert answers[1]["a"].reason is Reason.HELD_BY_OPERATOR


def test_sleep_waits_for_requests_and_never_cuts_them():
    cluster = Cluster().model("a").busy("a").wants("a", admission_closed_at=NOW - 119)
    cluster.orders("a", WantAsleep(at=NOW - 120))
    assert cluster.plan()["a"].drain
    answer = cluster.plan(after=1.0)
    assert answer.does == {}
    assert not answer["a"].drain


def test_sleep_stops_what_cannot_sleep_and_says_why():
    cluster = Cluster(sleep_frees_memory=False).model("a").engine("a").orders("a", WantAsleep(at=NOW - 1))
    answer = cluster.plan()
    assert answer.does == {"a": "Stop"}
    assert "it stops, as sleeping frees nothing here" in answer["a"].message


def test_two_models_put_to_sleep_at_once_do_not_overdraw_the_host():
    cluster = Cluster((8.0, 8.0), host=3.0)
    for device, name in enumerate("ab"):
        cluster.model(name).engine(name, device).orders(name, WantAsleep(at=NOW - 1, level=SleepLevel(1)))
    assert cluster.plan().does == {"a": "Sleep 1", "b": "Stop"}


def test_sleep_does_not_stop_an_engine_that_only_missed_a_probe():
    cluster = Cluster().model("a").engine("a", state=Unknown(since=NOW - 1, error="timeout"))
    assert cluster.orders("a", WantAsleep(at=NOW - 1)).plan()["a"].reason is Reason.STATE_UNKNOWN


def test_start_wakes_a_sleeper():
    answers = Cluster().model("a").asleep("a").orders("a", WantReady(at=NOW - 1)).settle()
    assert does(answers) == [{"a": "Wake 1"}, {}]


def test_a_model_to_be_stopped_takes_no_requests_while_it_waits_for_its_device():
    cluster = Cluster().model("a").model("x", 2.0).engine("x", state=Loading(progress_at=NOW)).engine("a")
    cluster.waits("x")
    answer = cluster.orders("a", WantStopped(at=NOW - 1)).plan()
    assert answer.does == {}
    assert answer["a"].drain
    assert answer["a"].waits_for == ("x",)
