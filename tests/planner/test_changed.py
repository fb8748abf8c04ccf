"""What a change of models.yaml would lead to."""

from dataclasses import replace

from tests.planner.cluster import NOW, Cluster
from vllama.domain.demand import WantStopped
from vllama.domain.spec import ModelSpec
from vllama.domain.units import GIB
from vllama.planner.project import settle
from vllama.planner.suppose import changed


def acts(cluster: Cluster, spec: ModelSpec) -> list[tuple[str, str]]:
    desired, snapshot = cluster.states()
    then = changed(desired, snapshot, NOW, spec, snapshot.footprints.get(spec.model))
    return [(type(action).__name__, action.model) for plan in settle(*then, NOW) for action in plan.actions]


def with_memory(cluster: Cluster, gib: int) -> ModelSpec:
    return replace(cluster.models["a"], memory_bytes=gib * GIB)


def test_what_was_ready_comes_back() -> None:
    cluster = Cluster().model("a", 3).model("b", 3).engine("a", unused=5).engine("b", unused=5)
    assert acts(cluster, with_memory(cluster, 4)) == [("Stop", "a"), ("Start", "a")]


def test_what_slept_only_goes() -> None:
    cluster = Cluster().model("a", 3).asleep("a")
    assert acts(cluster, with_memory(cluster, 4)) == [("Stop", "a")]


def test_the_same_engine_stays() -> None:
    cluster = Cluster().model("a", 3).engine("a", unused=5)
    assert acts(cluster, replace(cluster.models["a"], priority=5)) == []


def test_what_grew_makes_others_go() -> None:
    cluster = Cluster().model("a", 3).model("b", 3).engine("a", unused=5).engine("b", unused=5)
    assert acts(cluster, with_memory(cluster, 6)) == [("Stop", "a"), ("Sleep", "b"), ("Start", "a")]


def test_an_operators_word_stands() -> None:
    cluster = Cluster().model("a", 3).engine("a", unused=5).orders("a", WantStopped(at=NOW))
    assert acts(cluster, with_memory(cluster, 4)) == [("Stop", "a")]


def test_a_new_model_that_is_pinned_starts() -> None:
    assert acts(Cluster(), ModelSpec(model="n", memory_bytes=2 * GIB, pin=True)) == [("Start", "n")]
