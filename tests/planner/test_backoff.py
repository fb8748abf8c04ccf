"""Failures in a row, and the pauses between the tries."""

from tests.planner.cluster import NOW, Cluster
from vllama.domain.observed import Crashes
from vllama.domain.reason import Reason
from vllama.planner.backoff import after_crash, delay_s


def failed(count: int, ago: float) -> Cluster:
    cluster = Cluster().model("a").waits("a")
    cluster.crashes["a"] = Crashes(count=count, last_at=NOW - ago, cause="CUDA out of memory")
    return cluster


def test_the_pauses_double_from_10_s_to_5_min():
    assert [delay_s(count) for count in range(1, 9)] == [10, 20, 40, 80, 160, 300, 300, 300]


def test_it_is_not_tried_again_before_its_time():
    answer = failed(3, ago=39.0).plan()
    assert answer.does == {}
    assert answer["a"].reason is Reason.BACKING_OFF
    assert "Failed 3x in a row; next try in 1.0s. Last: CUDA out of memory" in answer["a"].message
    assert answer.plan.requeue_after_s == 1.0


def test_it_is_tried_again_when_its_time_has_come():
    assert failed(3, ago=40.0).plan().does == {"a": "Start"}


def test_the_row_goes_on_after_a_short_life_and_starts_anew_after_ten_minutes_of_service():
    first = after_crash(None, now=0.0, up_s=3.0, cause="x")
    assert first.count == 1
    assert after_crash(first, now=20.0, up_s=599.0, cause="x").count == 2
    assert after_crash(first, now=2000.0, up_s=600.0, cause="x").count == 1


def test_a_model_that_can_never_fit_is_refused_however_it_failed():
    cluster = failed(3, ago=1.0)
    cluster.model("a", 99.0)
    assert cluster.plan()["a"].refused
