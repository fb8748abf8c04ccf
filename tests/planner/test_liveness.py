"""Nobody starves, provided requests end: a machine in virtual time, with requests that come and go."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planner.machine import LOAD_S, SECONDS, Machine
from tests.strategies import halves
from vllama.domain.action import Sleep, Start, Stop, Wake
from vllama.domain.observed import Device, Footprint, Node
from vllama.domain.spec import ModelSpec, Policy, SleepLevel, VictimPolicy
from vllama.domain.units import GIB

LONGEST_S = 60.0  # of a request, in these tests
BOUND_S = Policy().fairness_bound_s


def machine(gpus: list[int], sizes: list[tuple[int, int]], host: int = 40 * GIB, **spec) -> Machine:
    """Models m0, m1, ... of (bytes, devices) each."""
    devices = tuple(Device(index=i, name=f"GPU {i}", total_bytes=size) for i, size in enumerate(gpus))
    names = [f"m{i}" for i in range(len(sizes))]
    return Machine(
        node=Node(name="here", devices=devices, host_budget_bytes=host, sleep_frees_memory=True),
        models={
            name: ModelSpec(model=name, memory_bytes=size, device_count=count, **spec)
            for name, (size, count) in zip(names, sizes, strict=True)
        },
        footprints={
            name: Footprint(awake_bytes=size, asleep_bytes=GIB // 2, weights_bytes=size // 2)
            for name, (size, _) in zip(names, sizes, strict=True)
        },
    )


def longest_wait_s(models: int) -> float:
    """Everybody else first, each of them: the bound, the longest request, all its victims gone one by one, a start."""
    swap = models * (SECONDS[Sleep] + SECONDS[Stop]) + SECONDS[Start] + LOAD_S + SECONDS[Wake]
    return models * (BOUND_S + LONGEST_S + swap)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    gpus = draw(st.lists(halves(8, 16), min_size=1, max_size=3))
    sizes = draw(st.lists(st.tuples(halves(2, 8), st.integers(1, len(gpus))), min_size=2, max_size=5))
    made = machine(gpus, sizes, host=draw(halves(0, 30)))
    made.policy = Policy(victims=draw(st.sampled_from(VictimPolicy)))
    for name in made.models:
        at = draw(st.floats(0, 300))
        for _ in range(draw(st.integers(0, 6))):
            made.request(name, at, takes=draw(st.floats(0.1, LONGEST_S)))
            at += draw(st.floats(0, 40))
    return made


@settings(max_examples=150)
@given(machines())
def test_everybody_is_served_within_the_bound(made):
    made.run()
    assert not made.refused
    assert not any(line.waiting or line.in_flight for line in made.lines.values())
    assert all(seconds <= longest_wait_s(len(made.models)) for _, seconds in made.waits)


def test_a_model_that_is_never_idle_gives_way_to_one_that_waits():
    """Overlapping requests keep m0 in flight for an hour; m1 is served all the same, and soon."""
    made = machine([8 * GIB], [(6 * GIB, 1), (6 * GIB, 1)])
    for i in range(360):
        made.request("m0", at=10.0 * i, takes=25.0)
    made.request("m1", at=100.0, takes=5.0)
    made.run()
    [wait] = [seconds for model, seconds in made.waits if model == "m1"]
    assert wait <= BOUND_S + 25.0 + SECONDS[Sleep] + SECONDS[Start] + LOAD_S
    assert len([model for model, _ in made.waits if model == "m0"]) == 360


def test_a_pair_of_devices_is_collected_from_two_that_are_never_idle():
    made = machine([8 * GIB, 8 * GIB], [(6 * GIB, 1), (6 * GIB, 1), (6 * GIB, 2)])
    for i in range(100):
        made.request("m0", at=10.0 * i, takes=25.0)
        made.request("m1", at=10.0 * i + 3.0, takes=25.0)
    made.request("m2", at=100.0, takes=5.0)
    made.run()
    [wait] = [seconds for model, seconds in made.waits if model == "m2"]
    assert wait <= BOUND_S + 25.0 + SECONDS[Sleep] + SECONDS[Start] + LOAD_S


def test_two_pairs_that_are_never_idle_do_not_pass_the_waiter_to_and_fro():
    """When a drained model of one pair has ended it is the most recently used: the drain goes on there even so."""
    made = machine([8 * GIB] * 4, [(6 * GIB, 1)] * 4 + [(6 * GIB, 2)])
    for i in range(100):
        for k, name in enumerate(("m0", "m1", "m2", "m3")):
            made.request(name, at=10.0 * i + 2.5 * k, takes=15.0 + 12.0 * k)
    made.request("m4", at=100.0, takes=5.0)
    made.run()
    [wait] = [seconds for model, seconds in made.waits if model == "m4"]
    assert wait <= BOUND_S + 51.0 + SECONDS[Sleep] + SECONDS[Start] + LOAD_S


def test_n_plus_1_models_in_turn_on_n_places_swap_once_per_request():
    """The worst case of the least recently used: it costs one swap each, no more."""
    made = machine([8 * GIB], [(6 * GIB, 1)] * 3)
    for i in range(30):
        made.request(f"m{i % 3}", at=60.0 * i, takes=5.0)
    made.run()
    raised = [action for _, action in made.actions if isinstance(action, Start | Wake)]
    assert len(raised) == 30
    assert max(seconds for _, seconds in made.waits[3:]) <= SECONDS[Sleep] + SECONDS[Wake] + 1.0


def test_a_waiter_of_low_priority_is_served_when_its_waiting_has_made_up_for_it():
    made = machine([8 * GIB], [(6 * GIB, 1), (6 * GIB, 1)])
    made.models["m0"] = ModelSpec(model="m0", memory_bytes=6 * GIB, priority=2)
    for i in range(100):
        made.request("m0", at=10.0 * i, takes=25.0)
    made.request("m1", at=100.0, takes=5.0)
    made.run()
    [wait] = [seconds for model, seconds in made.waits if model == "m1"]
    rest = 2 * BOUND_S  # a drain that an arrival of higher priority ended, and the rest after it
    assert wait <= 2 * Policy().ageing_s + rest + 25.0 + SECONDS[Sleep] + SECONDS[Start] + LOAD_S


def test_level_2_sleepers_take_turns_too():
    made = machine([8 * GIB], [(6 * GIB, 1)] * 2, host=0, eviction_level=SleepLevel.DISCARDED)
    for i in range(8):
        made.request(f"m{i % 2}", at=40.0 * i, takes=5.0)
    made.run()
    assert len(made.waits) == 8
    assert {action.level for _, action in made.actions if isinstance(action, Sleep)} == {SleepLevel.DISCARDED}
