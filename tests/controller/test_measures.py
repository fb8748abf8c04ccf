"""What /metrics is told of memory and models."""

from dataclasses import replace

from tests.planner.cluster import NOW, Cluster
from vllama.controller.histogram import Histogram
from vllama.controller.measures import Measures, measures_of
from vllama.controller.tally import LAG_BOUNDS_S, Sums
from vllama.domain.observed import Crashes
from vllama.domain.units import GIB


def told(cluster: Cluster) -> Measures:
    desired, snapshot = cluster.states()
    return measures_of(desired, snapshot, Sums(), Histogram(LAG_BOUNDS_S))


def test_of_each_model_what_it_takes_how_it_failed_and_who_waits() -> None:
    cluster = Cluster(gpus=(24.0,)).model("org/awake", 5.0).model("org/cold", 6.0).engine("org/awake", 0)
    cluster = cluster.waits("org/cold", since=7.0, requests=2)
    cluster.crashes = {
        "org/cold": Crashes(count=3, last_at=NOW - 1, cause="c"), "org/gone": Crashes(count=9, last_at=NOW, cause="c"),
    }  # fmt: skip
    measures = told(cluster)
    assert measures.failures == {"org/awake": 0, "org/cold": 3}
    assert measures.oldest_s == {"org/awake": 0.0, "org/cold": 7.0}
    assert measures.footprints["org/awake"]["awake"] == 5 * GIB
    assert measures.footprints["org/cold"]["awake"] == 6 * GIB
    assert all(size > 0 for parts in measures.footprints.values() for size in parts.values())
    assert measures.books.nodes


def test_what_is_not_declared_is_reckoned_from_the_largest_device_and_what_is_not_known_is_left_out() -> None:
    cluster = Cluster(gpus=(8.0, 24.0)).model("org/a", 5.0)
    cluster.models["org/a"] = replace(cluster.models["org/a"], memory_bytes=None)
    desired, snapshot = cluster.states()
    snapshot = replace(snapshot, footprints={})
    measures = measures_of(desired, snapshot, Sums(), Histogram(LAG_BOUNDS_S))
    assert "weights" not in measures.footprints["org/a"]
    assert 0 < measures.footprints["org/a"]["awake"] <= 24 * GIB
