"""Where each number comes from."""

from dataclasses import replace

from tests.planner.cluster import Cluster
from vllama.controller.figures import Source, figures_of
from vllama.controller.profiles import Profile
from vllama.domain.observed import Footprint
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, SleepLevel
from vllama.domain.units import GIB


def of(cluster: Cluster, model: str, *, profile: Profile | None = None, footprint: Footprint | None = None):
    desired, snapshot = cluster.states()
    found = {} if footprint is None else {model: (profile or Profile()).over(footprint)}
    return figures_of(model, desired, replace(snapshot, footprints=found), profile or Profile())


ESTIMATE = Footprint(awake_bytes=20 * GIB, asleep_bytes=GIB, weights_bytes=15 * GIB, cache_bytes=3 * GIB)


def test_before_it_ever_ran_all_is_estimated_or_assumed():
    figures = of(Cluster((24.0,)).model("a", None), "a", footprint=ESTIMATE)
    assert (figures.awake_bytes, figures.weights_bytes, figures.host_copy_bytes) == (20 * GIB, 15 * GIB, 45 * GIB // 2)
    assert figures.sources == {
        "awake_bytes": Source.ESTIMATED,
        "asleep_bytes": Source.ASSUMED,
        "weights_bytes": Source.ESTIMATED,
        "host_copy_bytes": Source.ASSUMED,
    }
    assert (figures.load_s, figures.sleep_s, figures.wake_s, figures.cache_bytes) == (None, None, None, None)


def test_what_was_measured_says_so():
    profile = Profile(asleep_bytes=GIB // 2, weights_bytes=14 * GIB, fixed_bytes=16 * GIB, load_s=40.0, wake_s=0.5)
    figures = of(Cluster((24.0,)).model("a", None), "a", footprint=ESTIMATE, profile=profile)
    assert (figures.asleep_bytes, figures.weights_bytes, figures.load_s) == (GIB // 2, 14 * GIB, 40.0)
    assert figures.cache_bytes == 3 * GIB
    assert figures.sources == {
        "awake_bytes": Source.LOG,
        "asleep_bytes": Source.MEASURED,
        "weights_bytes": Source.LOG,
        "cache_bytes": Source.LOG,
        "host_copy_bytes": Source.ASSUMED,
        "load_s": Source.MEASURED,
        "wake_s": Source.MEASURED,
    }


def test_what_is_declared_counts_for_more():
    declared = of(Cluster().model("a", 5.0), "a", footprint=ESTIMATE)
    assert (declared.awake_bytes, declared.sources["awake_bytes"]) == (5 * GIB, Source.DECLARED)
    cluster = Cluster((8.0, 16.0))
    cluster.models["s"] = ModelSpec(model="s", launch=LaunchSpec(settings=(("gpu_memory_utilization", 0.5),)))
    cluster.weights["s"] = 1.0
    share = of(cluster, "s", footprint=ESTIMATE)
    assert (share.awake_bytes, share.sources["awake_bytes"]) == (8 * GIB, Source.DECLARED)


def test_of_an_unknown_model_only_what_is_assumed_of_any():
    figures = of(Cluster((10.0,)).model("a", None), "a")
    assert (figures.awake_bytes, figures.weights_bytes) == (int(8.5 * GIB), None)
    assert figures.sources["awake_bytes"] is Source.ASSUMED


def test_weights_that_are_not_there_yet_are_not_known_to_be_nothing():
    figures = of(Cluster().model("a", 5.0), "a", footprint=replace(ESTIMATE, weights_bytes=0))
    assert (figures.weights_bytes, figures.host_copy_bytes) == (None, None)
    assert "weights_bytes" not in figures.sources


def test_a_running_model_takes_what_it_was_started_with_and_rests_when_it_is_told_to():
    cluster = Cluster().model("a", 5.0, idle=IdleSpec(sleep_after_s=60.0, level=SleepLevel.DISCARDED))
    cluster.engine("a", memory_bytes=4 * GIB)
    figures = of(cluster, "a", footprint=ESTIMATE)
    assert (figures.awake_bytes, figures.rests_after_s, figures.rests_at) == (4 * GIB, 60.0, 2)
