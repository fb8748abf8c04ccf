"""How long one plan takes, by size: a third of the devices' worth of engines, some waiting, some idle, some asleep."""

import argparse
import json
import random
import statistics
import time
from dataclasses import replace

from vllama.domain.demand import Demand
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, Awake, Device, EngineObservation, Footprint, Node, Snapshot
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.domain.units import GIB
from vllama.planner import plan
from vllama.planner.check import check

Size = tuple[int, int, int, int, int, int]
SIZES: dict[str, Size] = {  # models, machines, devices each, waiting, devices of every other one that waits, least GiB
    "50x8": (50, 1, 8, 5, 1, 10),
    "50x8, parallel": (50, 1, 8, 5, 4, 10),
    "500x8": (500, 1, 8, 20, 1, 10),
    "1000x512": (1000, 64, 8, 50, 1, 10),
}
BEYOND: dict[str, Size] = {  # `--beyond`: what comes first when it is too much
    "1000x512, parallel": (1000, 64, 8, 50, 4, 10),
    "2100x512, many waiting": (2100, 64, 8, 200, 1, 10),
    "4000x1024": (4000, 128, 8, 50, 1, 10),
    "2100x512, all devices full": (2100, 64, 8, 50, 1, 35),
    "2100x512, all devices full, parallel": (2100, 64, 8, 50, 4, 35),
}


def cluster(size: Size, dice: random.Random) -> tuple[DesiredState, Snapshot]:
    """Every device of 80 GiB holds two engines awake and two asleep; `waiting` models that do not run are wanted."""
    models, nodes, devices, waiting, parallel, least = size
    specs = {
        f"org/m{i}": ModelSpec(model=f"org/m{i}", memory_bytes=dice.randint(least, 38) * GIB) for i in range(models)
    }  # fmt: skip
    names = list(specs)
    engines, demand, used = [], {}, {}
    for slot in range(min(4 * nodes * devices, models - waiting)):
        model = names[slot]
        node, device = f"n{slot // 4 // devices}", slot // 4 % devices
        awake = slot % 4 < 2
        state = Awake(ready_at=0) if awake else Asleep(level=SleepLevel.WEIGHTS_OFFLOADED)
        holds = specs[model].memory_bytes if awake else GIB
        used[node, device] = used.get((node, device), 0) + holds
        engines.append(EngineObservation(
            engine_id=f"e{slot}", model=model, spec_hash=specs[model].spec_hash, node=node, devices=(device,),
            memory_bytes=specs[model].memory_bytes, state=state, started_at=0, measured_bytes=holds,
        ))  # fmt: skip
        demand[model] = Demand(in_flight=dice.choice([0, 0, 1]), last_used_at=dice.uniform(0, 900))
    for i in range(waiting):
        demand[names[-1 - i]] = Demand(waiting=3, oldest_waiting_at=990 + i * 0.1)
        specs[names[-1 - i]] = replace(specs[names[-1 - i]], device_count=parallel if i % 2 else 1)
    footprints = {
        model: Footprint(awake_bytes=spec.memory_bytes, asleep_bytes=GIB, weights_bytes=5 * GIB)
        for model, spec in specs.items()
    }
    machines = tuple(machine(f"n{n}", devices, used) for n in range(nodes))
    snapshot = Snapshot(taken_at=1000, engines=tuple(engines), footprints=footprints, nodes=machines)
    return DesiredState(generation=1, models=specs, demand=demand), snapshot


def machine(name: str, devices: int, used: dict[tuple[str, int], int]) -> Node:
    held = [used.get((name, index), 0) for index in range(devices)]
    return Node(
        name=name, host_budget_bytes=512 * GIB, sleep_frees_memory=True,
        devices=tuple(Device(index=i, name="x", total_bytes=80 * GIB, used_bytes=size) for i, size in enumerate(held)),
    )  # fmt: skip


def timed(times: int, do, rounds: int) -> dict[str, float]:
    """Medians over the rounds, since the clock rate of a shared machine changes between them."""
    for _ in range(2 * rounds):  # a loop that has run for seconds is warm
        do()
    found = [one_round(times, do) for _ in range(rounds)]
    return {f"p{q}_ms": round(statistics.median(each[i] for each in found), 2) for i, q in enumerate((50, 99))}


def one_round(times: int, do) -> tuple[float, float]:
    taken = []
    for _ in range(times):
        began = time.process_time()  # of this process: the machine may be shared
        do()
        taken.append((time.process_time() - began) * 1e3)
    taken.sort()
    return taken[times // 2], taken[int(times * 0.99)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--beyond", action="store_true", help="clusters that are too large, in place of the others")
    options = parser.parse_args()
    dice = random.Random(1)
    result = {}
    for name, size in (BEYOND if options.beyond else SIZES).items():
        desired, snapshot = cluster(size, dice)
        times, rounds = options.times if size[1] == 1 else max(20, options.times // 10), 5
        if options.beyond:
            times, rounds = 5, 1
        decided = plan(desired, snapshot, 1000.0)
        result[name] = {
            "plan": timed(times, lambda d=desired, s=snapshot: plan(d, s, 1000.0), rounds),
            "check": timed(times, lambda d=desired, s=snapshot, p=decided: check(d, s, 1000.0, p), rounds),
            "actions": sum(1 for _ in decided.actions),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
