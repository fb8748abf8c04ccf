"""Those who call: one coroutine per request, from its arrival to its one outcome. And what arrives when."""

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vllama.controller.control import Unresolved
from vllama.controller.demand import WaitFailed
from vllama.domain.demand import KeepAlive

if TYPE_CHECKING:
    from tests.simulation.world import World

MOOD_S = 900.0


@dataclass(slots=True, eq=False)
class Visit:
    """`patience_s`: how long it waits in the queue before it leaves; `stays_s`: and within the answer.

    `max_wait_s`: who would wait longer is told so. `keep_alive`: what it says of the time after it.
    `turns`: in how many of its model's turns it must have been let in, by how many stood before it when it came.
    """

    number: int
    name: str
    duration_s: float
    patience_s: float | None = None
    stays_s: float | None = None
    max_wait_s: float | None = None
    keep_alive: KeepAlive | None = None
    model: str = ""
    since: float = 0.0
    waits: bool = False
    turns: int = 1
    outcome: str | None = None


@dataclass(slots=True, eq=False)
class Crowd:
    """`waiting` and `flying` count by model what the board should count, too."""

    world: "World"
    rng: random.Random
    demands: random.Random
    visits: dict[Visit, asyncio.Task[None]] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)
    flying: Counter[str] = field(default_factory=Counter)
    longest_wait_s: float = 0.0
    changed: bool = False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def keep_coming(self) -> None:
        """Arrivals for ever, in moods: steady, a burst, a round robin (the worst case for LRU), silence."""
        while True:
            profile = self.world.profile
            mood = self.rng.choice(["burst", "robin", "silence"]) if self.rng.random() < profile.bursty else "steady"
            until = self.world.loop.now + self.rng.uniform(0.2, 1.0) * MOOD_S * (0.3 if mood == "silence" else 1)
            turn = self.rng.randrange(100)
            while self.world.loop.now < until:
                pause = self.rng.expovariate(1 / profile.arrivals_every_s)
                if mood == "silence":
                    pause *= 40
                elif mood == "robin":
                    pause = 4 * profile.arrivals_every_s
                await asyncio.sleep(pause)
                turn += 1
                names = self.world.catalogue.names()
                name = names[turn % len(names)] if mood == "robin" else self._popular(names)
                for _ in range(self.rng.randrange(1, 12) if mood == "burst" and self.rng.random() < 0.2 else 1):
                    self.arrive(name)

    def _popular(self, names: list[str]) -> str:
        weights = [1 / (rank + 1) ** self.world.profile.zipf for rank in range(len(names))]
        return self.rng.choices(names, weights)[0]

    def arrive(self, name: str) -> Visit:
        profile, rng = self.world.profile, self.rng
        visit = Visit(
            number=next(self._numbers), name=self.world.catalogue.spoken(name),
            duration_s=min(rng.expovariate(1 / profile.duration_s), profile.longest_s), since=self.world.loop.now,
        )  # fmt: skip
        if rng.random() < profile.impatient:
            visit.patience_s = rng.expovariate(1 / 20.0)
        if rng.random() < profile.impatient:
            visit.stays_s = rng.uniform(0.0, visit.duration_s)
        self._demand(visit)
        self.send(visit)
        return visit

    def _demand(self, visit: Visit) -> None:
        """By a chance of its own, so that who arrives when does not hang on it."""
        chance, demanding = self.demands, self.world.profile.demanding
        if chance.random() < demanding:
            visit.max_wait_s = chance.expovariate(1 / 20.0)
        if chance.random() < demanding:
            visit.keep_alive = KeepAlive(idle_s=chance.choice([None, 0.0, chance.expovariate(1 / 60.0)]))

    def send(self, visit: Visit) -> None:
        self.world.story.tell("arrival", f"#{visit.number} for {visit.name}, {visit.duration_s:.2f} s")
        task = asyncio.get_running_loop().create_task(self._visit(visit))
        self.visits[visit] = task
        task.add_done_callback(lambda _: self.visits.pop(visit, None))

    async def _visit(self, visit: Visit) -> None:
        try:
            outcome = await self._come(visit)
        except asyncio.CancelledError:
            outcome = "cut by a restart"
        if visit.outcome is not None:
            self.world.story.wrong("two outcomes", f"#{visit.number}: {visit.outcome}, then {outcome}")
        visit.outcome = outcome
        self.world.story.tell("outcome", f"#{visit.number} for {visit.name} {outcome}")

    async def _come(self, visit: Visit) -> str:
        controller = self.world.controller
        if controller is None:
            return "nobody listens"
        found = controller.resolve(visit.name)
        if isinstance(found, Unresolved):
            self.world.check_unknown(visit.name)
            return "unknown model"
        visit.model = found.model
        board = controller.board
        grant = board.admit(found.model, visit.keep_alive)
        if grant is None:
            if found.max_concurrency is not None:
                visit.turns += self.waiting[found.model] // found.max_concurrency
            self._count(self.waiting, visit, 1)
            visit.waits = True
            try:
                async with asyncio.timeout(visit.patience_s):
                    grant = await board.wait_until_ready(
                        found.model, max_queue=found.max_queue, timeout_s=found.queue_timeout_s,
                        max_wait_s=visit.max_wait_s, keep_alive=visit.keep_alive,
                    )  # fmt: skip
            except TimeoutError:
                return "left the queue"
            except WaitFailed as failed:
                return f"was told {failed.failure.code}"
            finally:
                visit.waits = False
                self._count(self.waiting, visit, -1)
                self.longest_wait_s = max(self.longest_wait_s, self.world.loop.now - visit.since)
        self._count(self.flying, visit, 1)
        try:
            answer = await self._call(visit, grant.endpoint.port, grant.endpoint.engine_id)
            if answer == "found nobody there" and grant.endpoint.far:
                board.unreachable(grant, "connection refused")
            return answer
        finally:
            self._count(self.flying, visit, -1)
            grant.release()

    async def _call(self, visit: Visit, port: int, engine_id: str) -> str:
        machine = self.world.machine
        begun = machine.begin_request(port, visit.duration_s)
        if begun is None:
            return "found nobody there"
        engine, request = begun
        if engine.model != visit.model or engine.engine_id != engine_id:
            self.world.story.wrong("wrong engine", f"#{visit.number} for {visit.model} reaches {engine}")
        try:
            async with asyncio.timeout(visit.stays_s):
                how = await request.ended
        except TimeoutError:
            return "left the stream"
        finally:
            machine.finish(engine, request, "aborted")
        return "was served" if how == "finished" else "was broken off"

    def _count(self, counter: Counter[str], visit: Visit, change: int) -> None:
        counter[visit.model] += change
        self.changed = True

    def cut_all(self) -> list[asyncio.Task[None]]:
        """The server is dead, and all its connections with it."""
        tasks = list(self.visits.values())
        for task in tasks:
            task.cancel()
        return tasks
