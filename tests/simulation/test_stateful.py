"""The same worlds, with Hypothesis as fate: it looks for the shortest story that ends badly, and prints it."""

import asyncio
import contextlib
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.simulation import accidents, rest
from tests.simulation.clients import Visit
from tests.simulation.profiles import PROFILES
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

PROFILE = replace(
    PROFILES["faulty"], models=4, pinned=1, smallest_bytes=6 << 30, load_s=(4.0, 8.0), measured_visible=0.5
)
CHANCES = st.integers(0, 2**16).map(random.Random)
MODELS = st.integers(0, PROFILE.models - 1)


class Worlds(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 7))
    def boot(self, seed: int) -> None:
        self.inside = contextlib.ExitStack()
        directory = Path(self.inside.enter_context(tempfile.TemporaryDirectory(prefix="vllama-stateful-")))
        self.world = World(seed=seed, profile=PROFILE, directory=directory, loop=VirtualLoop())
        self.inside.enter_context(self.world.owned())
        self.world.fate.on = False
        self.numbers = 0
        self.sure(self.world.boot)
        self.advance(1.0)

    def sure(self, deed, *args, **kwargs) -> None:
        """Do it as a step of the loop."""

        async def step() -> None:
            done = deed(*args, **kwargs)
            if asyncio.iscoroutine(done):
                await done

        if self.world.story.violation is None:
            self.world.until(step())

    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 10.0, 31.0, 125.0, 700.0]))
    def advance(self, seconds: float) -> None:
        self.sure(asyncio.sleep, seconds)

    @rule(model=MODELS, seconds=st.sampled_from([0.1, 5.0, 50.0, 400.0]), count=st.sampled_from([1, 1, 5]))
    def request(self, model: int, seconds: float, count: int) -> None:
        for _ in range(count):
            self.numbers += 1
            visit = Visit(number=self.numbers, name=f"org/m{model:02}", duration_s=seconds, since=self.world.loop.now)
            self.sure(self.world.crowd.send, visit)

    @precondition(lambda self: self.world.crowd.visits)
    @rule(chance=CHANCES)
    def leave(self, chance: random.Random) -> None:
        task = chance.choice(list(self.world.crowd.visits.values()))
        self.sure(task.cancel)

    @precondition(lambda self: any(engine.running for engine in self.world.machine.engines.values()))
    @rule()
    def finish(self) -> None:
        """Every answer that is being computed ends now."""
        for engine in list(self.world.machine.engines.values()):
            for request in list(engine.running.values()):
                self.sure(self.world.machine.finish, engine, request, "finished")

    @rule(verb=st.sampled_from(["start", "stop", "sleep"]), model=MODELS, level=st.sampled_from([None, 1, 2]))
    def operate(self, verb: str, model: int, level: int | None) -> None:
        self.sure(self.world.operate, verb, f"org/m{model:02}", level=level)

    @rule(chance=CHANCES)
    def edit(self, chance: random.Random) -> None:
        self.world.catalogue._rng = chance
        self.sure(self.world.catalogue.edit, self.world.loop.now)

    @rule(chance=CHANCES, accident=st.sampled_from([accidents.foreign, accidents.crash, accidents.reading]))
    def befall(self, chance: random.Random, accident) -> None:
        self.sure(accident, self.world, chance)

    @rule(on=st.booleans())
    def faults(self, on: bool) -> None:
        self.world.fate.on = on

    @rule(down_s=st.sampled_from([0.1, 5.0]))
    def kill(self, down_s: float) -> None:
        self.sure(self.world.kill)
        self.advance(down_s)
        self.sure(self.world.boot)
        self.advance(0.5)

    @invariant()
    def nothing_is_wrong(self) -> None:
        if hasattr(self, "world"):
            assert self.world.story.violation is None, self.story()

    def story(self) -> str:
        return "\n".join([*self.world.story.last, str(self.world.story.violation)])

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.sure(rest.come_to_rest, self.world)
            assert self.world.story.violation is None, self.story()
        finally:
            self.world.loop.drain()
            self.world.loop.close()
            self.inside.close()


TestWorlds = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")(Worlds.TestCase)
TestWorlds.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
