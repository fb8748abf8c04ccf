"""Memory that nobody gets: the reserve of a device, and what a pinned model stands on."""

from tests.planner.cluster import NOW, Cluster
from vllama.domain.reason import Reason


def test_the_reserve_is_nobodys():
    roomy = Cluster((8.0,), reserve=0.5).model("a", 7.5).waits("a")
    assert roomy.plan().does == {"a": "Start"}
    tight = Cluster((8.0,), reserve=0.5).model("a", 4.0).model("b", 4.0).engine("a").waits("b")
    assert tight.plan().does == {"a": "Sleep 1"}


def test_the_reserve_counts_against_what_can_ever_fit():
    answer = Cluster((8.0,), reserve=0.5).model("a", 7.6).waits("a").plan()["a"]
    assert (answer.reason, answer.refused) == (Reason.CANNOT_FIT, True)
    assert "8.0 GiB - 512.0 MiB reserve" in answer.message


def test_a_pinned_model_makes_no_room_for_one_that_comes_before_it_in_the_order():
    cluster = Cluster((8.0,)).model("pin", 4.0, pin=True).model("other", 4.0).model("vip", 4.0, priority=1000)
    cluster.engine("pin", unused=900).engine("other", unused=10).waits("vip", since=NOW)
    assert cluster.plan().does == {"other": "Stop"}  # asleep it would hold 0.4 GiB of the 4 that are needed
