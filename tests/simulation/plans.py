"""Random plans carried out on devices of our making: `python -m tests.simulation.plans --plans 1000000 [--seed N]`.

No start and no wake may run out of memory that the plan could have seen to be missing.
"""

import argparse
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.plan_machine import Fault
from tests.simulation.plan_worlds import PlanWorld
from vllama.domain.decision import Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Snapshot
from vllama.planner import plan
from vllama.planner.check import check

PASSES = 50  # of one world
Planner = Callable[[DesiredState, Snapshot, float], Plan]


@dataclass(slots=True)
class Report:
    """`wrong`: what the planner is to blame for, with the seed of the world that shows it."""

    plans: int = 0
    done: Counter[str] = field(default_factory=Counter)
    misses: Counter[Fault] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.plans += other.plans
        self.done += other.done
        self.misses += other.misses
        self.wrong += other.wrong

    def __str__(self) -> str:
        done = ", ".join(f"{count} x {verb}" for verb, count in self.done.items())
        misses = ", ".join(f"{self.misses[fault]} {fault.value}" for fault in Fault)
        return f"{self.plans} plans: {done}; out of memory by whose fault: {misses}"


def live(
    seed: int, *, planner: Planner = plan, passes: int = PASSES, trusting: bool = False, aloud: bool = False
) -> Report:
    """One world, for so many passes. The same seed lives the same life. `trusting`: without the second opinion."""
    world, report = PlanWorld(random.Random(seed)), Report()
    machine = world.machine
    for _ in range(passes):
        world.elapse()
        desired, snapshot, foreign = world.desired(), world.snapshot(), {g.index: g.foreign for g in machine.gpus}
        made = planner(desired, snapshot, world.now)
        findings = () if trusting else check(desired, snapshot, world.now, made)
        report.wrong += [f"seed {seed}: {finding.kind}: {finding.message}" for finding in findings]
        world.disturb(0.03)
        for decision in made.decisions:
            if aloud and decision.action is not None:
                print(f"{machine.passes:4} {decision.action}")
            if not findings:
                world.act(decision, snapshot, foreign)
        report.plans += 1
    report.done.update(machine.counts)
    report.misses.update(miss.fault for miss in machine.misses)
    report.wrong += [f"seed {seed}: {miss.text}" for miss in machine.misses if miss.fault is Fault.PLANNER]
    if aloud:
        print(*(f"{miss.fault.value}: {miss.text}" for miss in machine.misses), sep="\n")
    return report


def live_many(first_seed: int, plans: int, *, planner: Planner = plan, trusting: bool = False) -> Report:
    """Worlds one after the other, until there were so many plans."""
    report = Report()
    for seed in range(first_seed, first_seed + -(-plans // PASSES)):
        report.add(live(seed, planner=planner, trusting=trusting))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--plans", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="tell the story of one world")
    asked = parser.parse_args()
    if asked.trace:
        return 1 if live(asked.seed, aloud=True).wrong else 0
    report, began, worlds = Report(), time.monotonic(), -(-asked.plans // PASSES)
    with multiprocessing.Pool(asked.jobs) as pool:
        for one in pool.imap_unordered(live, range(asked.seed, asked.seed + worlds), chunksize=50):
            report.add(one)
            print(*one.wrong, sep="\n", end="\n" if one.wrong else "")
    print(f"{report}; {time.monotonic() - began:.0f} s")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
