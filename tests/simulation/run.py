"""Simulate a world: `python -m tests.simulation.run --seed 7 --profile faulty [--events N] [--trace]`."""

import argparse
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.explained import check_explanations
from tests.simulation.profiles import PROFILES
from tests.simulation.story import Violation
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

World_ = tuple[int, int, str]  # seed, events, profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`counts` by kind of event; `explained`: decisions that their evidence led to again, by reason. `violation` None:
    nothing was wrong.
    """

    seed: int
    profile: str
    events: int
    simulated_s: float
    longest_wait_s: float
    explained: dict[str, int]
    counts: dict[str, int]
    digest: str
    violation: Violation | None
    last: tuple[str, ...]
    asked: int

    @property
    def replay(self) -> str:
        which = f"--seed {self.seed} --profile {self.profile} --each {self.asked}"
        return f"python -m tests.simulation.run {which} --trace"

    def __str__(self) -> str:
        what = f"seed {self.seed}, profile {self.profile}"
        if self.violation is None:
            return (
                f"{what}: {self.events} events in {self.simulated_s:.0f} s, longest wait {self.longest_wait_s:.0f} s, "
                f"{self.digest} {dict(self.counts)}"
            )
        return "\n".join([*self.last, "", f"{what}: {self.violation}", f"replay: {self.replay}"])


def simulate(seed: int, *, events: int, profile: str, aloud: bool = False, explain_every: int = 1) -> Report:
    """One world from its beginning to its rest. The same arguments give the same story, to the last digit.

    `explain_every`: of so many passes one is checked to be explained rightly.
    """
    loop = VirtualLoop()
    began = loop.now
    with tempfile.TemporaryDirectory(prefix="vllama-simulation-") as directory:
        try:
            world = World(seed=seed, profile=PROFILES[profile], directory=Path(directory), loop=loop, aloud=aloud)
            world.run(events)
            check_explanations(world.story, Path(directory), every=explain_every)
        finally:
            loop.drain()
            loop.close()
    return Report(
        seed=seed, profile=profile, events=world.events, simulated_s=loop.now - began, asked=events,
        longest_wait_s=world.crowd.longest_wait_s, explained=dict(world.story.explained),
        counts=dict(world.story.counts), digest=world.story.digest, violation=world.story.violation,
        last=tuple(world.story.last),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first one, where there are more")
    parser.add_argument("--profile", choices=[*PROFILES], help="all of them in turn, unless one is named")
    parser.add_argument("--events", type=int, default=10_000, help="in all")
    parser.add_argument("--each", type=int, default=10_000, help="events of one world")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print the story of one world")
    parser.add_argument("--keep-going", action="store_true", help="past the first failure")
    asked = parser.parse_args()
    if asked.trace:
        report = simulate(asked.seed, events=asked.each, profile=asked.profile or "calm", aloud=True)
        print(report)
        return 1 if report.violation else 0
    return _many(asked)


def _many(asked: argparse.Namespace) -> int:
    """Worlds until there were enough events, or until one fails."""
    profiles = [asked.profile] if asked.profile else [*PROFILES]
    worlds = ((asked.seed + i // len(profiles), asked.each, profiles[i % len(profiles)]) for i in itertools.count())
    done, failed, began = 0, 0, time.monotonic()
    with multiprocessing.Pool(asked.jobs) as pool:
        for report in pool.imap_unordered(_simulate, _until_enough(worlds, asked)):
            done += report.events
            print(report if report.violation else f"{report}   {done} of {asked.events}", flush=True)
            failed += report.violation is not None
            if failed and not asked.keep_going:
                return 1
    print(f"{done} events in {time.monotonic() - began:.0f} s, {failed} worlds failed")
    return 1 if failed else 0


def _until_enough(worlds: Iterator[World_], asked: argparse.Namespace) -> Iterator[World_]:
    return itertools.islice(worlds, -(-asked.events // asked.each))


def _simulate(world: World_) -> Report:
    seed, events, profile = world
    return simulate(seed, events=events, profile=profile)


if __name__ == "__main__":
    sys.exit(main())
