"""Ten thousand plans here, any number with `python -m tests.simulation.plans --plans N`: none runs out of memory by its
own fault, and planners that are wrong are found out.
"""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.simulation.plan_machine import Engine, Fault, Gpu, PlanMachine, Stage, in_pages, share_of
from tests.simulation.plans import PASSES, live, live_many
from vllama.domain.action import Start, Wake
from vllama.domain.decision import Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Device, Snapshot
from vllama.domain.units import GIB, MIB
from vllama.engine.command import _rounded_down
from vllama.planner import placement, plan

PLANS = 10_000


def test_no_start_and_no_wake_of_ten_thousand_plans_runs_out_of_memory_that_could_be_seen_to_be_missing():
    seed = random.SystemRandom().randrange(2**32)
    report = live_many(seed, PLANS)
    print(f"seed {seed}: {report}")
    assert report.plans >= PLANS
    assert report.wrong == []
    assert min(report.done.values()) > 100  # starts, sleeps, wakes, stops
    assert report.misses[Fault.FOREIGN] > 0  # nobody's fault: the machine does look


def test_the_same_seed_lives_the_same_life():
    assert str(live(7)) == str(live(7))
    assert str(live(7)) != str(live(8))


# Wrong planners: each sees the cluster as it is not, and so gives away what is not there.


def deceived(**changed: Callable[[Device], object]) -> Callable[[DesiredState, Snapshot, float], Plan]:
    """A planner that takes every device for what these functions make of it."""

    def planner(desired: DesiredState, snapshot: Snapshot, now: float) -> Plan:
        nodes = tuple(
            replace(
                node,
                devices=tuple(
                    replace(device, **{name: see(device) for name, see in changed.items()}) for device in node.devices
                ),
            )
            for node in snapshot.nodes
        )
        return plan(desired, replace(snapshot, nodes=nodes), now)

    return planner


def blamed(planner: Callable[[DesiredState, Snapshot, float], Plan]) -> bool:
    return bool(live_many(1, 40 * PASSES, planner=planner, trusting=True).misses[Fault.PLANNER])


def test_a_planner_that_forgets_what_others_hold_is_found():
    assert blamed(deceived(used_bytes=lambda device: 0))


def test_a_planner_that_thinks_the_devices_larger_is_found():
    assert blamed(deceived(total_bytes=lambda device: device.total_bytes + 2 * GIB, reserve_bytes=lambda device: 0))


def test_a_planner_that_takes_the_unknown_for_free_is_found():
    assert blamed(deceived(used_bytes=lambda device: device.used_bytes or 0))


def test_a_planner_that_forgets_that_sleepers_grow_when_they_wake_is_found(monkeypatch):
    monkeypatch.setattr("vllama.planner.ledger.Ledger.wake_bytes", lambda self, engine: 0)
    assert blamed(plan)


def test_a_planner_that_asks_as_much_of_a_larger_device_is_found(monkeypatch):
    def needs(spec, ledger, node, devices):
        return (min(honest(spec, ledger, node, devices)),) * len(devices)

    honest = placement.needs_on
    monkeypatch.setattr(placement, "needs_on", needs)
    assert blamed(plan)


# The machine itself.


def machine(total: int, **more) -> PlanMachine:
    gpu = Gpu(index=0, total=total, withheld=more.get("withheld", 0), reserve=0)
    return PlanMachine((gpu,), random.Random(1), host_budget=GIB, sleep_frees=True)


def start(planned: int, total: int) -> Start:
    return Start(
        model="a", spec_hash="x", node="here", devices=(0,), memory_bytes=planned,
        gpu_memory_utilization=planned / total,
    )  # fmt: skip


def engine(planned: int, total: int) -> Engine:
    return Engine(
        engine_id="a", model="a", spec_hash="x", devices=(0,), planned=planned, share=share_of(planned / total),
        full=in_pages(planned), residue=GIB, told=GIB, copy=0, started_at=0.0, seen={0: 0},
    )  # fmt: skip


def run(house: PlanMachine, passes: int = 10) -> None:
    for _ in range(passes):
        house.elapse(0.0)


def test_an_engine_starts_where_exactly_its_share_is_free_and_not_where_a_byte_is_missing():
    for others, stage in ((2 * GIB, Stage.AWAKE), (2 * GIB + 1, Stage.FAILED)):
        house, one = machine(8 * GIB), engine(6 * GIB, 8 * GIB)
        house.foreign(0, others)
        house.begin(start(6 * GIB, 8 * GIB), one, 0.0)
        run(house)
        assert one.stage is stage
        assert [miss.fault for miss in house.misses] == ([] if stage is Stage.AWAKE else [Fault.FOREIGN])


def test_who_comes_after_the_snapshot_is_to_blame_and_who_was_there_before_is_not():
    house, one = machine(8 * GIB), engine(6 * GIB, 8 * GIB)
    house.foreign(0, 3 * GIB)
    one.seen = {0: 3 * GIB}
    house.begin(start(6 * GIB, 8 * GIB), one, 0.0)
    run(house)
    assert [miss.fault for miss in house.misses] == [Fault.PLANNER]


def test_a_wake_takes_what_it_gave_back_and_what_leaked_on_top():
    house, one = machine(8 * GIB), engine(6 * GIB, 8 * GIB)
    house.begin(start(6 * GIB, 8 * GIB), one, 0.0)
    run(house)
    one.leak = 2 * GIB + MIB
    house._fall_asleep(one, 1)
    run(house)
    assert house.used(0) == one.held == 3 * GIB + MIB
    house.begin(Wake(model="a", engine_id="a", node="here", devices=(0,), level=1), one, 0.0)
    run(house)
    assert one.stage is Stage.FAILED


@pytest.mark.parametrize("share", [0.9, 0.92, 0.12345, 1 / 3, 0.00001, 0.99995])
def test_the_share_is_rounded_as_the_command_line_rounds_it(share):
    assert f"{share_of(share):f}".rstrip("0") == _rounded_down(share)
