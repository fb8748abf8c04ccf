"""The end of a run: faults stop, arrivals pause, and then everything must come to rest, and stay there."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.clients import Visit
from tests.simulation.engines import Stage
from vllama.domain.reason import Reason

if TYPE_CHECKING:
    from tests.simulation.world import World

FAIRNESS_S = 30.0
DRAIN_S = 120.0
LONGEST_BACKOFF_S = 300.0
# and what follows from a sleep that time brought about
BY_TIME = {Reason.IDLE_TOO_LONG, Reason.ASLEEP_TOO_LONG, Reason.RESIDUE_GREW, Reason.HOST_MEMORY_SHORT}
STILL_S = 240.0


def bound_s(world: "World", *, turns: int = 1) -> float:
    """How long anybody may wait: every other model may come first, with its wait, its drain and its swap.

    `turns`: of its own model. As `max_concurrency` lets only so many in at once, who came before may need some.
    """
    profile = world.profile
    turn = FAIRNESS_S + profile.longest_s + profile.load_s[1] + 30.0
    engines = sum(entry.get("replicas", 1) for entry in world.catalogue.entries.values())
    return turns * engines * turn


async def watch_the_waiting(world: "World") -> None:
    """Where nothing goes wrong nobody waits past the bound."""
    if world.profile.faults.every_s is not None or world.profile.restarts_every_s is not None:
        return
    while True:
        await asyncio.sleep(10.0)
        for visit in list(world.crowd.visits):
            if visit.waits and world.loop.now - visit.since > bound_s(world, turns=visit.turns):
                world.story.wrong("starved", f"#{visit.number} for {visit.model} waits since {visit.since:.0f} s")


async def come_to_rest(world: "World") -> None:
    _stop_faults(world)
    world.story.tell("rest", "faults stop, and nobody new arrives")
    most_turns = max((visit.turns for visit in world.crowd.visits), default=1)
    limit_s = 2 * bound_s(world, turns=most_turns) + LONGEST_BACKOFF_S + DRAIN_S
    await _until(world, limit_s, lambda: not world.crowd.visits, "somebody still waits")
    for name, entry in world.catalogue.entries.items():
        if entry.get("pin"):
            world.operate("start", name)  # what an operator put aside stays so until then
    fit = [name for name in world.catalogue.entries if _can_fit(world, name)]
    world.story.tell("rest", f"everybody wants {', '.join(fit)}")
    served: set[str] = set()
    asking = [asyncio.ensure_future(_insist(world, name, served)) for name in fit]
    await _until(world, limit_s, lambda: len(served) == len(fit), "not everybody is served")
    for task in asking:
        task.cancel()
    await _stay_still(world)
    await world.shut_down()


def _stop_faults(world: "World") -> None:
    world.fate.on = False
    world.runtime.reads_fail = world.runtime.reads_are_slow = False
    for host in world.machine.hosts.all:
        world.machine.hosts.hear_again(host)
    for gpu in world.machine.gpus:
        gpu.readable = True
        world.machine.set_foreign(gpu.index, 0)
    world.catalogue.write()


async def _until(world: "World", limit_s: float, holds, otherwise: str) -> None:
    end = world.loop.now + limit_s
    while not holds():
        if world.loop.now > end:
            world.story.wrong("no convergence", f"{otherwise} after {limit_s:.0f} s:\n{_plan_text(world)}")
        await asyncio.sleep(1.0)


async def _insist(world: "World", name: str, served: set[str]) -> None:
    """Ask until served; what failed is asked again a little later."""
    while name not in served:
        visit = Visit(number=-1, name=name, duration_s=0.5, since=world.loop.now)
        world.crowd.send(visit)
        while visit.outcome is None:  # noqa: ASYNC110  # virtual seconds cost nothing
            await asyncio.sleep(0.5)
        if visit.outcome == "was served":
            served.add(name)
        else:
            await asyncio.sleep(5.0)


async def _stay_still(world: "World") -> None:
    """Nobody asks for anything: but for what time brings about, nothing happens any more."""
    await asyncio.sleep(120.0)
    controller = world.controller
    if controller is None:
        world.story.wrong("no convergence", "there is no manager")
        return
    pinned = [name for name, entry in world.catalogue.entries.items() if entry.get("pin")]
    for name in pinned:
        if not controller.board.is_open(name) and world.catalogue.entries[name].get("pin"):
            world.story.wrong("no convergence", f"{name} is pinned and not ready:\n{_plan_text(world)}")
    each = Counter((e.model, e.replica) for e in world.machine.engines.values() if e.stage is not Stage.GONE)
    for (model, number), count in each.items():
        if count > 1:
            world.story.wrong("no convergence", f"there are {count} engines of {model}, number {number}")
    end = world.loop.now + STILL_S
    while world.loop.now < end:
        plan = controller._loop.plan
        for decision in plan.decisions if plan else ():
            busy = decision.action is not None or decision.waits_for or decision.drain or decision.refused
            by_time = decision.reason in BY_TIME or decision.reason in {Reason.DRAINING, Reason.GOING_DOWN}
            # what somebody gave back in time a further engine of a model in use may take
            replicated = world.catalogue.entries.get(decision.model.partition("#")[0], {}).get("replicas", 1) > 1
            if busy and not by_time and not replicated:
                world.story.wrong("no rest", f"{decision.model}: {decision.reason} {decision.message}")
        await asyncio.sleep(2.0)


def _can_fit(world: "World", name: str) -> bool:
    """On enough devices, besides all the pinned ones, wherever they are."""
    need, profile, catalogue = world.catalogue.memory_bytes(name), world.profile, world.catalogue
    pins = [catalogue.memory_bytes(o) for o, e in catalogue.entries.items() if e.get("pin") and o != name]
    if catalogue.entries[name].get("on_conflict") == "refuse":
        return False
    return need + sum(pins) <= profile.device_bytes - profile.reserve_bytes


def _plan_text(world: "World") -> str:
    if world.controller is None or world.controller._loop.plan is None:
        return "there is no plan"
    return "\n".join(
        f"  {d.model} {d.before} {d.reason} {d.message} {d.action or ''} {'drain' if d.drain else ''}"
        for d in world.controller._loop.plan.decisions
    )
