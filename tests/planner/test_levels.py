"""At which level an engine sleeps, and when a sleeper must go for good."""

from dataclasses import replace

import pytest

from tests.planner.cluster import Cluster
from vllama.domain.demand import WantAsleep
from vllama.domain.reason import Reason
from vllama.domain.spec import IdleSpec, SleepLevel
from vllama.domain.units import GIB, MIB


def evicts_a(**fields) -> Cluster:
    """`a` has to make room; its copy would take 3 GiB of host memory."""
    cluster = Cluster((8.0,), **fields).model("a", 7.0).model("b", 7.0)
    return cluster.engine("a").waits("b")


def test_auto_is_level_1_while_the_host_has_room_for_the_copy():
    assert evicts_a(host=3.0).plan().does == {"a": "Sleep 1"}


def test_then_level_2_for_who_comes_back_right_from_it():
    assert evicts_a(host=2.9, discardable={"a"}).plan().does == {"a": "Sleep 2"}
    assert evicts_a(host=2.9).plan().does == {"a": "Stop"}


def test_what_the_host_has_available_counts_as_well_as_its_budget():
    assert evicts_a(host=64.0, available=6.0).plan().does == {"a": "Stop"}  # 3.2 GiB are for everybody else
    assert evicts_a(host=64.0, available=6.3).plan().does == {"a": "Sleep 1"}


@pytest.mark.parametrize(
    ("refused", "does"), [({1}, "Sleep 2"), ({2}, "Sleep 1"), ({1, 2}, "Stop"), (set(), "Sleep 1")]
)
def test_a_level_that_failed_is_not_tried_again(refused: set[int], does: str):
    cluster = evicts_a(discardable={"a"}, refused={"a": refused})
    assert cluster.plan().does == {"a": does}


@pytest.mark.parametrize(("level", "does"), [(1, "Sleep 1"), (2, "Sleep 2"), (3, "Stop")])
def test_a_level_that_was_chosen_is_the_one(level: int, does: str):
    cluster = Cluster((8.0,)).model("a", 7.0, eviction_level=SleepLevel(level)).model("b", 7.0)
    assert cluster.engine("a").waits("b").plan().does == {"a": does}


def test_one_copy_fits_the_other_victim_goes_to_level_2():
    cluster = Cluster((8.0, 8.0), host=3.0, discardable={"a", "b"})
    for name in "ab":
        cluster.model(name, 7.0)
    cluster.model("c", 7.0, device_count=2).engine("a", 0, unused=20).engine("b", 1, unused=10).waits("c")
    assert cluster.plan().does == {"a": "Sleep 2", "b": "Sleep 1"}  # who is likelier to be called wakes faster


@pytest.mark.parametrize("how", ["idle", "operator"])
def test_by_time_and_by_hand_too(how: str):
    idle = IdleSpec(sleep_after_s=60.0)
    cluster = Cluster((8.0,), host=1.0, discardable={"a"}).model("a", 7.0, idle=idle).engine("a", unused=100)
    if how == "operator":
        cluster.orders("a", WantAsleep(at=cluster.now))
    assert cluster.plan().does == {"a": "Sleep 2"}


# the ladder, faster than by time


def three_sleepers(**fields) -> Cluster:
    cluster = Cluster((8.0, 8.0, 8.0), **fields)
    for index, (name, unused) in enumerate({"cold": 900.0, "cool": 500.0, "warm": 100.0}.items()):
        cluster.model(name, 7.0).asleep(name, index, unused=unused)
    return cluster


def test_while_the_host_has_room_sleepers_sleep():
    assert three_sleepers(host=9.0).plan().does == {}


@pytest.mark.parametrize(
    ("fields", "stopped"),
    [
        ({"host": 8.0}, {"cold"}),
        ({"host": 5.0}, {"cold", "cool"}),
        ({"host": 64.0, "available": 2.0}, {"cold"}),
        ({"host": 64.0, "available": 0.1}, {"cold", "cool"}),
    ],
)
def test_where_host_memory_is_short_the_coldest_stop(fields: dict[str, float], stopped: set[str]):
    answer = three_sleepers(**fields).plan()
    assert answer.does == dict.fromkeys(stopped, "Stop")
    assert answer["cold"].reason is Reason.HOST_MEMORY_SHORT
    assert "copy of 3.0 GiB, unused for 15m" in answer["cold"].message


def test_who_is_going_already_counts_as_gone():
    cluster = three_sleepers(host=8.0)
    cluster.models["warm"] = replace(cluster.models["warm"], idle=IdleSpec(sleep_after_s=10.0, stop_after_s=50.0))
    assert cluster.plan().does == {"cold": "Stop", "warm": "Stop"}  # by pressure, and by time
    cluster.models["warm"] = replace(cluster.models["warm"], priority=1)
    cluster.waits("warm")
    assert cluster.plan().does == {"cold": "Stop", "warm": "Wake 1"}


def test_what_is_called_wakes_rather_than_stops():
    assert three_sleepers(host=8.0).waits("cold").plan().does == {"cold": "Wake 1", "cool": "Stop"}


def test_level_2_keeps_no_copy_and_cannot_help():
    cluster = Cluster((8.0, 8.0), host=1.0).model("a", 7.0).model("b", 7.0)
    cluster.asleep("a", 0, level=2, unused=900).asleep("b", 1, unused=100)
    assert cluster.plan().does == {"b": "Stop"}


def test_on_the_cpu_nothing_is_counted_twice():
    cluster = three_sleepers(host=0.0, sleep_frees_memory=False)
    assert cluster.plan().does == {}


@pytest.mark.parametrize(
    ("first", "now", "recycled"),
    [
        (400 * MIB, 800 * MIB, False),
        (400 * MIB, 801 * MIB, True),
        (50 * MIB, 120 * MIB, False),  # twice of next to nothing
        (None, 4 * GIB, False),  # adopted: nobody knows what it grew from
    ],
)
def test_a_residue_that_grew_past_twice_its_first_measure_is_recycled(first: int | None, now: int, recycled: bool):
    cluster = Cluster((8.0,)).model("a", 7.0)
    cluster.asleep("a")
    cluster.engines[0] = replace(cluster.engines[0], first_residue_bytes=first, measured_bytes=now)
    answer = cluster.plan()
    assert answer.does == ({"a": "Stop"} if recycled else {})
    if recycled:
        assert (answer["a"].reason, "801.0 MiB, and 400.0 MiB after" in answer["a"].message) == (
            Reason.RESIDUE_GREW,
            True,
        )
        assert cluster.waits("a").plan().does == {"a": "Wake 1"}  # first who waits


@pytest.mark.parametrize(("leaked", "does"), [(0.5, {"a": "Wake 1"}), (1.5, {"b": "Sleep 1"})])
def test_a_wake_needs_room_for_what_was_leaked_as_well(leaked: float, does: dict[str, str]):
    """0.4 of what it holds asleep turns into 3.5 when awake; what it leaked stays on top of that."""
    cluster = Cluster((8.0,), foreign={0: leaked}).model("a").model("b").engine("b").waits("a")
    held = {"measured_bytes": int((0.4 + leaked) * GIB), "first_residue_bytes": int(0.4 * GIB)}
    assert cluster.asleep("a", **held).plan().does == does


def test_nobody_is_recycled_with_requests_in_flight():
    """It cannot be, asleep; should it be all the same, they are not cut."""
    cluster = Cluster((8.0,)).model("a", 7.0)
    cluster.asleep("a", first_residue_bytes=400 * MIB, measured_bytes=2 * GIB).wants("a", in_flight=1)
    assert cluster.plan().does == {}
    short = three_sleepers(host=8.0)
    for name in ("cold", "cool"):
        short.wants(name, in_flight=1)
    assert short.plan().does.keys() <= {"warm"}
