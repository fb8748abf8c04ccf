"""What befalls a world by itself: engines die, other programs come and go, the driver says nothing, managers die."""

import asyncio
import random
from typing import TYPE_CHECKING

from tests.simulation.engines import Engine, Stage
from tests.simulation.hosts import Trouble

if TYPE_CHECKING:
    from tests.simulation.world import World


async def befall(world: "World", rng: random.Random) -> None:
    """For ever, as often as the profile says."""
    rates = world.profile.faults
    if rates.every_s is None:
        return
    kinds = {foreign: rates.foreign, crash: rates.crash, reading: rates.reading, still: rates.still, node: rates.node}
    while True:
        await asyncio.sleep(rng.expovariate(1 / rates.every_s))
        accident = rng.choices(list(kinds), list(kinds.values()))[0]
        said = accident(world, rng)
        if said is not None:
            world.story.tell("fault", said)


def foreign(world: "World", rng: random.Random) -> str:
    gpu = rng.choice(world.machine.gpus)
    size = int(rng.uniform(0.05, 0.6) * gpu.total)
    world.machine.set_foreign(gpu.index, gpu.foreign + size)
    size = gpu.foreign
    world.loop.call_later(rng.expovariate(1 / 120.0), world.machine.set_foreign, gpu.index, 0)
    return f"others hold {size >> 20} MiB of gpu{gpu.index}"


def crash(world: "World", rng: random.Random) -> str | None:
    alive = [engine for engine in world.machine.engines.values() if engine.alive and not engine.stopping]
    if not alive:
        return None
    engine, kind = rng.choice(alive), rng.choice(["dies", "leaves orphans", "loses its core", "hangs"])
    engine.excuse = kind
    if kind == "dies":
        world.machine.end(engine, rng.choice([0, 1, -9]), "RuntimeError: CUDA error: unspecified launch failure")
    elif kind == "leaves orphans":
        world.machine.end(engine, -9, orphans=True)
    elif kind == "loses its core":
        _lose_core(world, engine)
    else:
        engine.hung = True
    return f"{engine} {kind}"


def still(world: "World", rng: random.Random) -> str | None:
    """Its server goes on to say that it is well."""
    alive = [each for each in world.machine.engines.values() if each.stage is Stage.AWAKE and each.operation is None]
    if not alive:
        return None
    engine = rng.choice(alive)
    engine.excuse = "stands still"
    world.machine.stand_still(engine)
    return f"{engine} stands still"


def node(world: "World", rng: random.Random) -> str | None:
    """One of several hosts says nothing for a while: it, or the way to it, or only its agent."""
    hosts = world.machine.hosts
    well = [host for host in hosts.all if host.answers]
    if not hosts.several or not well:
        return None
    host, trouble, seconds = rng.choice(well), rng.choice(list(Trouble)), 0.5 + rng.expovariate(1 / 15.0)
    hosts.fall_silent(host, trouble)
    world.loop.call_later(seconds, hosts.hear_again, host)
    return f"{host.name} {trouble.value}, for {seconds:.1f} s"


def _lose_core(world: "World", engine: Engine) -> None:
    engine.core_dead = True
    for request in list(engine.running.values()):
        world.machine.finish(engine, request, "broken")
    if engine.stage is not Stage.LOADING:
        world.machine.hold(engine, 0)


def reading(world: "World", rng: random.Random) -> str:
    runtime, gpu, seconds = world.runtime, rng.choice(world.machine.gpus), rng.uniform(1.0, 30.0)
    match rng.choice(["fails", "is blind", "is slow"]):
        case "fails":
            runtime.reads_fail = True
            world.loop.call_later(seconds, setattr, runtime, "reads_fail", False)
            return f"memory cannot be read for {seconds:.0f} s"
        case "is blind":
            gpu.readable = False
            world.loop.call_later(seconds, setattr, gpu, "readable", True)
            return f"gpu{gpu.index} cannot be read for {seconds:.0f} s"
        case _:
            runtime.reads_are_slow = True
            world.loop.call_later(seconds, setattr, runtime, "reads_are_slow", False)
            return f"readings are slow for {seconds:.0f} s"


async def operate(world: "World", rng: random.Random) -> None:
    """Operators start, stop and put to sleep what they like."""
    every_s = world.profile.operators_every_s
    while every_s is not None:
        await asyncio.sleep(rng.expovariate(1 / every_s))
        name, verb = rng.choice(sorted(world.catalogue.entries)), rng.choice(["start", "start", "stop", "sleep"])
        world.operate(verb, name, level=rng.choice([None, 1, 2]))


async def edit(world: "World", rng: random.Random) -> None:
    """models.yaml is changed, now and then wrongly; a wrong one is put right within a minute or so."""
    every_s = world.profile.edits_every_s
    while every_s is not None:
        await asyncio.sleep(rng.expovariate(1 / every_s))
        said = world.catalogue.edit(world.loop.now)
        world.story.tell("edit", said)
        if said == "a file that is wrong":
            await asyncio.sleep(rng.expovariate(1 / 30.0))
            world.catalogue.write()


async def restart(world: "World", rng: random.Random) -> None:
    """The manager is killed, or asked to end, and started anew."""
    every_s = world.profile.restarts_every_s
    while every_s is not None:
        await asyncio.sleep(rng.expovariate(1 / every_s))
        async with world.between_managers:
            if rng.random() < 0.25:
                await world.shut_down()
            else:
                await world.kill()
            await asyncio.sleep(rng.uniform(0.1, 5.0))
            world.boot()
