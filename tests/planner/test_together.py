"""Who can be awake together, against the planner itself and against trying everything."""

import itertools

from hypothesis import given, settings

from tests.planner.cluster import NOW, Cluster
from tests.strategies import quiet_state, sane_state
from vllama.domain.observed import Awake
from vllama.planner.ledger import Ledger
from vllama.planner.placement import need_on, sets
from vllama.planner.project import settle
from vllama.planner.spans import kind_of, span_of
from vllama.planner.suppose import alone, requested, start_of
from vllama.planner.together import MOST_FOR_SETS, MOST_MODELS, Matrix, Together, matrix_of
from vllama.planner.view import View


def matrix(cluster: Cluster) -> Matrix:
    return matrix_of(*cluster.states(), NOW)


def pairs(found: Matrix) -> dict[str, str]:
    return {f"{a}{b}": together.value for (a, b), together in found.pairs.items()}


def test_pairs_and_the_largest_sets():
    found = matrix(Cluster().model("a", 5.0).model("b", 3.0).model("c", 2.5).model("d", 7.0))
    assert pairs(found) == {"ab": "yes", "ac": "yes", "ad": "no", "bc": "yes", "bd": "no", "cd": "no"}
    assert found.sets == (("a", "b"), ("a", "c"), ("b", "c"), ("d",))
    assert found.searched_all


def test_what_runs_now_and_who_waits_makes_no_difference():
    still = Cluster().model("a", 5.0).model("b", 3.0).model("c", 6.0)
    busy = Cluster().model("a", 5.0).model("b", 3.0).model("c", 6.0).busy("a").asleep("b").waits("c")
    assert matrix(busy) == matrix(still)


def test_pins_stand_beside_everybody_running_or_not():
    for cluster in (Cluster(), Cluster().model("p", 2.0, pin=True).engine("p")):
        found = matrix(cluster.model("p", 2.0, pin=True).model("a", 3.0).model("b", 4.0).model("c", 7.0))
        assert found.pinned == ("p",)
        assert pairs(found) == {"ab": "no"}
        assert found.never == {"c": "Needs 7.0 GiB; gpu0 has 8.0 GiB - 2.0 GiB of pinned p = 6.0 GiB."} or (
            not cluster.engines and set(found.never) == {"c"}
        )


def test_what_other_programs_hold_is_not_to_be_had():
    found = matrix(Cluster(foreign={0: 3.0}).model("a", 3.0).model("b", 2.0).model("c", 6.0))
    assert pairs(found) == {"ab": "yes"}
    assert set(found.never) == {"c"}
    assert "3.0 GiB held by other programs" in found.never["c"]


def test_a_pair_may_depend_on_which_came_first():
    """`a` goes to the first of two devices that are alike, the only one that `b` may use."""
    found = matrix(Cluster((8.0, 8.0)).model("a", 6.0).model("b", 6.0, devices=(0,)))
    assert pairs(found) == {"ab": "depends"}
    assert found.sets == (("a", "b"),)


def test_engines_across_devices_take_from_each():
    found = matrix(Cluster((8.0, 8.0)).model("t", 5.0, device_count=2).model("a", 3.0).model("b", 3.0).model("c", 4.0))
    assert pairs(found) == {"ab": "yes", "ac": "yes", "at": "yes", "bc": "yes", "bt": "yes", "ct": "no"}
    assert found.sets == (("a", "b", "c"), ("a", "b", "t"))


def test_too_many_are_capped_and_counted():
    cluster = Cluster()
    for number in range(MOST_FOR_SETS + 1):
        cluster.model(f"m{number:02}", 1.0)
    assert matrix(cluster).sets is None
    for number in range(MOST_FOR_SETS + 1, MOST_MODELS + 3):
        cluster.model(f"m{number:02}", 1.0)
    found = matrix(cluster)
    assert (len(found.models), found.left_out) == (MOST_MODELS, 3)


def test_declared_models_are_looked_at_before_cached_ones():
    cluster = Cluster()
    for number in range(MOST_MODELS):
        cluster.model(f"a{number:02}", 1.0, declared=False)
    assert "z" in matrix(cluster.model("z", 1.0)).models


def test_a_search_that_would_take_too_long_says_so():
    cluster = Cluster((80.0,) * 8)
    for number in range(12):
        size, devices = 41.0 + number, None if number % 3 else (number % 8, (number + 1) % 8)
        cluster.model(f"m{number:02}", size, devices=devices, device_count=1 + number % 2)
    found = matrix(cluster)
    assert not found.searched_all
    assert found.sets
    assert all(together is not Together.NO for names in found.sets
               for pair in itertools.combinations(names, 2) for together in [found.pairs[pair]])  # fmt: skip


@settings(max_examples=30)
@given(sane_state())
def test_a_pair_that_fits_is_let_in_by_the_planner_and_nobody_leaves(situation):
    found = matrix_of(situation.desired, situation.snapshot, situation.now)
    for pair in [pair for pair, together in found.pairs.items() if together is Together.YES][:6]:
        for order in (pair, pair[::-1]):
            desired, snapshot = alone(situation.desired, situation.snapshot, situation.now, order)
            plans = settle(requested(desired, order, situation.now), snapshot, situation.now)
            started = [action.model for made in plans for action in made.actions if action.model in pair]
            assert sorted(started) == sorted(pair)


@settings(max_examples=30)
@given(quiet_state())
def test_sets_are_those_that_trying_everything_finds(situation):
    found = matrix_of(situation.desired, situation.snapshot, situation.now)
    names = found.models[:4]
    desired, snapshot = alone(situation.desired, situation.snapshot, situation.now, found.models)
    if any(model not in {engine.model for engine in snapshot.engines} for model in found.pinned):
        return
    ledger = Ledger(View(desired=desired, snapshot=snapshot, now=situation.now))
    for size in range(1, len(names) + 1):
        for some in itertools.combinations(names, size):
            assert _somehow(ledger, desired.models, some) == any(set(some) <= set(each) for each in found.sets)


def _somehow(ledger: Ledger, specs, names) -> bool:
    for placed in itertools.product(*[list(_ways(ledger, specs[name])) for name in names]):
        left = {key: room or 0 for key, room in ledger.room.items()}
        for places, need in placed:
            for node, devices in places:
                for device in devices:
                    left[node, device] -= need
        if min(left.values()) >= 0:
            return True
    return False


def _ways(ledger: Ledger, spec):
    nodes = list(ledger.view.nodes.values())
    count, size = span_of(spec, nodes)
    for some in itertools.combinations(nodes, count):
        if count > 1 and len({kind_of(spec, node) for node in some}) > 1:
            continue
        for way in itertools.product(*[tuple(sets(spec, node, ledger, size)) for node in some]):
            places = [(node.name, devices) for node, devices in zip(some, way, strict=True)]
            yield places, min(need_on(spec, ledger, node, devices) for node, devices in places)


def test_how_a_model_would_be_started_where_it_runs_and_where_it_does_not():
    cluster = Cluster((8.0, 16.0)).model("a", 5.0).model("b", 9.0).engine("a", 0).engine("b", 1)
    desired, snapshot = cluster.states()
    assert start_of(desired, snapshot, NOW, "a").action.devices == (0,)
    assert start_of(desired, snapshot, NOW, "b").action.devices == (1,)
    moved = Cluster((8.0, 16.0)).model("a", 5.0).states()
    assert start_of(*moved, NOW, "a").action.devices == (1,)
    refused = start_of(*Cluster().model("a", 50.0).states(), NOW, "a")
    assert (refused.action, refused.refused) == (None, True)


def test_alone_only_the_pins_stay_and_are_ready():
    cluster = Cluster(foreign={0: 1.0}).model("p", 2.0, pin=True).asleep("p").model("a", 3.0).engine("a")
    _, snapshot = alone(*cluster.states(), NOW, {"a"})
    [engine] = snapshot.engines
    assert (engine.model, engine.state) == ("p", Awake(ready_at=NOW))
    assert snapshot.nodes[0].devices[0].used_bytes == 3 * (1 << 30)
