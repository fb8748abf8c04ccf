"""Whose turn it is, and whose memory is being freed."""

import pytest

from tests.planner.cluster import Cluster, does
from vllama.domain.reason import Reason


def test_who_waits_longest_is_first():
    cluster = Cluster().model("a", 6.0).model("b", 6.0).waits("a", since=3).waits("b", since=9)
    assert cluster.plan().does == {"b": "Start"}


def test_a_step_of_priority_is_worth_a_minute_of_waiting():
    cluster = Cluster().model("a", 6.0, priority=1).model("b", 6.0).waits("a", since=3)
    assert cluster.waits("b", since=62).plan().does == {"a": "Start"}
    assert cluster.waits("b", since=64).plan().does == {"b": "Start"}


def test_two_waiters_never_change_places_as_time_goes_by():
    cluster = Cluster().model("a", 6.0, priority=1).model("b", 6.0).waits("a", since=3).waits("b", since=33)
    assert {tuple(cluster.plan(after=s).does) for s in range(0, 300, 7)} == {("a",)}


def test_room_made_for_one_is_not_given_to_a_smaller_one_that_came_later():
    """2 GiB are free and would do for `small`; with them `large` can start when `a` is gone."""
    cluster = Cluster((16.0,)).model("a", 6.0).model("fix", 8.0, pin=True).model("large", 7.5).model("small", 2.0)
    cluster.busy("a").engine("fix").waits("large", since=9).waits("small", since=3)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["large"].reason is Reason.NO_IDLE_VICTIM
    assert answer["small"].reason is Reason.ROOM_RESERVED
    assert answer["small"].waits_for == ("large",)


def test_what_a_busy_victim_will_free_is_not_there_yet():
    """6 GiB held by `a`, 2 free: 3 of them for `c` and 2.5 for `d` exist only when `a` is gone."""
    cluster = Cluster().model("a", 6.0).model("c", 3.0).model("d", 2.5).busy("a")
    answer = cluster.waits("c", since=9).waits("d", since=3).plan()
    assert answer.does == {}
    assert answer["d"].reason is Reason.ROOM_RESERVED
    assert answer["d"].waits_for == ("c",)


def test_a_later_waiter_may_use_what_is_really_free_and_nobodys():
    cluster = Cluster().model("a", 6.0).model("c", 3.0).model("d", 1.0).busy("a")
    assert cluster.waits("c", since=9).waits("d", since=3).plan().does == {"d": "Start"}


def test_nobody_is_evicted_for_a_later_waiter_that_would_have_to_wait_all_the_same():
    cluster = Cluster().model("a", 6.0).model("idle", 1.0).model("c", 3.0).model("d", 5.0)
    answer = cluster.busy("a").engine("idle").waits("c", since=9).waits("d", since=3).plan()
    assert answer.does == {}


def test_a_set_of_devices_is_collected_not_lost_piece_by_piece():
    """gpu0 is free, gpu1 busy: gpu0 is kept for the pair, though `small` would fit."""
    cluster = Cluster((8.0, 8.0)).model("a", 6.0).model("pair", 6.0, device_count=2).model("small", 6.0, devices=(0,))
    cluster.busy("a", 1).waits("pair", since=9).waits("small", since=3)
    answer = cluster.plan()
    assert answer.does == {}
    assert answer["pair"].reason is Reason.NO_IDLE_VICTIM
    assert answer["small"].waits_for == ("pair",)


def test_everybody_gets_a_turn_and_nobody_comes_back_unasked():
    cluster = Cluster()
    for i, name in enumerate("abcd"):
        cluster.model(name, 6.0).waits(name, since=9 - i)
    answers = cluster.settle()
    raised = [name for answer in answers for name, verb in answer.does.items() if verb == "Start"]
    assert raised == ["a", "b", "c", "d"]
    assert does(answers)[:3] == [{"a": "Start"}, {"a": "Sleep 1"}, {"b": "Start"}]


@pytest.mark.parametrize(
    ("waiting", "said"),
    [
        (1, "; who could not wait is expected back."),
        (2, "; 1 request waits and who could not wait is expected back."),
        (3, "; 2 requests wait and who could not wait is expected back."),
    ],
)
def test_a_client_that_was_told_to_come_back_is_no_request_that_waits(waiting, said):
    answer = Cluster().model("a").waits("a", requests=waiting).wants("a", expected=1).plan()
    assert answer["a"].message.endswith(said)
    assert answer["a"].action is not None
