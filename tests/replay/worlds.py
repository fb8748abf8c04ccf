"""Small worlds to replay traces in, by hand and at random."""

import random

from vllama.domain.desired import DesiredState
from vllama.domain.observed import Device, Footprint, Node
from vllama.domain.spec import IdleSpec, ModelSpec, Policy, SleepLevel, VictimPolicy
from vllama.domain.units import GIB
from vllama.replay import ModelCosts, Request, Trace
from vllama.replay.costs import costs_of_weights

ONE, TWO = SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED


def requests(*said: tuple[float, str, float]) -> Trace:
    return Trace.of(Request(at_s, model, busy_s) for at_s, model, busy_s in said)


def machine(devices: int = 1, gib: float = 24, host_gib: float = 512) -> tuple[Node, ...]:
    each = tuple(Device(index=i, name="gpu", total_bytes=int(gib * GIB)) for i in range(devices))
    return (Node(name="here", devices=each, host_budget_bytes=int(host_gib * GIB), sleep_frees_memory=True),)


def cost(
    gib: float = 16, *, load_s: float = 10, wake_s: float = 3, sleep_s: float = 2, stop_s: float = 5
) -> ModelCosts:
    """Round numbers, all of them known."""
    footprint = Footprint(awake_bytes=int(gib * GIB), asleep_bytes=GIB, weights_bytes=8 * GIB, discardable=True)
    return ModelCosts(
        footprint=footprint, load_s=load_s, wake_s={ONE: wake_s, TWO: 2 * wake_s}, sleep_s={ONE: sleep_s, TWO: sleep_s},
        stop_s=stop_s, assumed=False,
    )  # fmt: skip


def wish(*models: ModelSpec | str, **policy) -> DesiredState:
    specs = [ModelSpec(model=each) if isinstance(each, str) else each for each in models]
    return DesiredState(generation=1, models={spec.model: spec for spec in specs}, policy=Policy(**policy))


def at_random(seed: int):
    """(trace, desired, nodes, costs): few devices, models of all sizes and manners, quiet and crowded hours."""
    dice = random.Random(seed)
    devices = dice.choice([1, 1, 2, 3])
    specs, costs = [], {}
    for number in range(dice.randint(2, 6)):
        name = f"m{number}"
        parallel = 2 if devices > 1 and dice.random() < 0.2 else 1
        spec = ModelSpec(
            model=name, device_count=parallel, sleep_mode=dice.random() < 0.7, priority=dice.choice([0, 0, 0, 1]),
            max_concurrency=dice.choice([None, None, 1, 2]), pin=dice.random() < 0.05, auto_start=dice.random() < 0.2,
            replicas=dice.choice([1, 1, 1, 2]),
            idle=IdleSpec(sleep_after_s=dice.choice([20.0, 300.0, None]), stop_after_s=dice.choice([None, 60.0])),
            eviction_level=dice.choice([None, None, TWO, SleepLevel.STOP]),
        )  # fmt: skip
        specs.append(spec)
        costs[name] = costs_of_weights(
            dice.randint(1, 14) * GIB, device_count=parallel, discardable=dice.random() < 0.5
        )
    at_s, asked = 0.0, []
    for _ in range(40):
        at_s += dice.expovariate(dice.choice([1.0, 0.1, 0.02]))
        asked.append(
            (round(at_s, dice.choice([0, 3])), dice.choice(specs).model, round(dice.lognormvariate(1.5, 1.2), 2))
        )
    nodes = machine(devices, dice.choice([24, 32, 48]), host_gib=dice.choice([16, 512]))
    victims = dice.choice(list(VictimPolicy))
    return requests(*asked), wish(*specs, victims=victims), nodes, costs
