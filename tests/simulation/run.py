"""Simulate a world: `python -m tests.simulation.run --seed 7 --profile faulty [--events N] [--trace]`."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.profiles import PROFILES
from tests.simulation.story import Violation
from tests.simulation.virtual import Deadlock, Spinning, VirtualLoop
from tests.simulation.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`counts` by kind of event; `outcomes` of requests. `violation` None: nothing was wrong."""

    seed: int
    profile: str
    events: int
    simulated_s: float
    longest_wait_s: float
    counts: dict[str, int]
    digest: str
    violation: Violation | None
    last: tuple[str, ...]

    @property
    def replay(self) -> str:
        return f"python -m tests.simulation.run --seed {self.seed} --profile {self.profile} --events {self.events_asked} --trace"

    events_asked: int = 0

    def __str__(self) -> str:
        what = f"seed {self.seed}, profile {self.profile}"
        if self.violation is None:
            return (
                f"{what}: {self.events} events in {self.simulated_s:.0f} s, longest wait {self.longest_wait_s:.0f} s, "
                f"{self.digest} {dict(self.counts)}"
            )
        return "\n".join([*self.last, "", f"{what}: {self.violation}", f"replay: {self.replay}"])


def simulate(seed: int, *, events: int, profile: str, aloud: bool = False) -> Report:
    """One world from its beginning to its rest. The same arguments give the same story, to the last digit."""
    loop = VirtualLoop()
    began = loop.now
    with tempfile.TemporaryDirectory(prefix="vllama-simulation-") as directory:
        try:
            world = World(seed=seed, profile=PROFILES[profile], directory=Path(directory), loop=loop, aloud=aloud)
            try:
                world.run(events)
            except (Deadlock, Spinning) as error:
                world.story.wrong(type(error).__name__, str(error))
        finally:
            loop.drain()
            loop.close()
    return Report(
        seed=seed, profile=profile, events=world.events, simulated_s=loop.now - began, events_asked=events,
        longest_wait_s=world.crowd.longest_wait_s, counts=dict(world.story.counts), digest=world.story.digest,
        violation=world.story.violation, last=tuple(world.story.last),
    )  # fmt: skip


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="calm")
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--trace", action="store_true")
    a = parser.parse_args()
    t = time.perf_counter()
    print(simulate(a.seed, events=a.events, profile=a.profile, aloud=a.trace))
    print(f"{time.perf_counter() - t:.2f} s")
