from dataclasses import replace

import pytest

from tests.planner.cluster import NOW, Cluster
from vllama.controller.report import statuses
from vllama.domain.observed import Loading, Verb
from vllama.domain.status import ModelStatus


def status(cluster: Cluster, **measured: float) -> ModelStatus:
    desired, snapshot = cluster.states()
    footprints = {name: replace(each, **measured) for name, each in snapshot.footprints.items()}
    [found] = statuses(desired, replace(snapshot, footprints=footprints), None, wall_minus_clock=0.0)
    return found


def loading(elapsed_s: float) -> Cluster:
    state = Loading(progress_at=NOW, stage="loading weights")
    return Cluster().model("a").engine("a", state=state, unused=elapsed_s)


@pytest.mark.parametrize(("elapsed_s", "left_s"), [(10.0, 30.0), (39.0, 1.0), (41.0, None)])
def test_how_far_a_start_is_and_how_long_it_takes_still(elapsed_s: float, left_s: float | None) -> None:
    found = status(loading(elapsed_s), load_s=40.0)
    assert found.stage == "loading weights"
    assert found.ready_in_s == (None if left_s is None else pytest.approx(left_s))


def test_what_was_never_measured_is_not_told() -> None:
    assert status(loading(1.0)).ready_in_s is None


def test_a_wake_takes_as_long_as_it_did() -> None:
    found = status(Cluster().model("a").asleep("a").operation(Verb.WAKE, "a"), wake_s=3.0)
    assert (found.ready_in_s, found.stage) == (pytest.approx(2.0), None)


def test_nobody_waits_for_who_is_awake_or_goes_down() -> None:
    assert status(Cluster().model("a").engine("a"), load_s=4.0).ready_in_s is None
    assert status(Cluster().model("a").engine("a").operation(Verb.SLEEP, "a"), load_s=4.0).ready_in_s is None
