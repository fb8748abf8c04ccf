"""Whose turn it is to make room: `policy.victims` lru and cost, and one that knows the future, over the same requests.

    python -m tests.bench.policy                    the twelve scenarios, twenty seeds each: some 5 minutes of CPU
    python -m tests.bench.policy --quick            three seeds each
    python -m tests.bench.policy --arrivals FILE    with arrivals drawn from published statistics, see `arrivals_of`

What is measured is how long requests wait, in all, until a model that is ready takes them. The first part of each
trace is not counted: there everything starts for the first time, whatever the policy.
"""

import argparse
import concurrent.futures
import csv
import gzip
import json
import math
import os
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vllama.domain.desired import DesiredState
from vllama.domain.observed import Device, Node
from vllama.domain.spec import IdleSpec, ModelSpec, Policy, SleepLevel, VictimPolicy
from vllama.domain.units import GIB
from vllama.replay.clairvoyant import clairvoyant
from vllama.replay.costs import Costs, costs_of_weights
from vllama.replay.generator import WINDOW_S, Habits, generate, round_robin
from vllama.replay.result import quantile
from vllama.replay.trace import Request, Trace
from vllama.replay.world import simulate

HOUR_S = 3600.0
HABITS = Habits(zipf=1.0, busy_s=8.0)
WARM_UP = 0.25  # of the span


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`host_gib`: for copies at level 1. `level`: what victims go to; None: auto. `cycle`: each in turn."""

    name: str
    models: int
    devices: int
    rate_per_s: float
    hours: float
    host_gib: int = 512
    level: SleepLevel | None = None
    cycle: bool = False
    gib: tuple[int, int] = (2, 60)  # weights
    awake_bytes: int | None = None


COLD, TWO = SleepLevel.STOP, SleepLevel.DISCARDED
SCENARIOS = (
    Scenario(name="12 models, 2 devices, sleep", models=12, devices=2, rate_per_s=0.1, hours=7),
    Scenario(name="12 models, 2 devices, sleep, saturated", models=12, devices=2, rate_per_s=0.5, hours=2),
    Scenario(name="12 models, 2 devices, cold", models=12, devices=2, rate_per_s=0.1, hours=8, level=COLD),
    Scenario(name="30 models, 4 devices, sleep", models=30, devices=4, rate_per_s=0.3, hours=3),
    Scenario(name="the same, 128 GiB for copies", models=30, devices=4, rate_per_s=0.3, hours=3, host_gib=128),
    Scenario(name="30 models, 4 devices, cold", models=30, devices=4, rate_per_s=0.05, hours=12, level=COLD),
    Scenario(name="50 models, 8 devices, sleep", models=50, devices=8, rate_per_s=1.0, hours=1.5),
    Scenario(name="50 models, 8 devices, cold", models=50, devices=8, rate_per_s=0.2, hours=5, level=COLD),
    Scenario(name="20 models, 2 devices, level 2", models=20, devices=2, rate_per_s=0.1, hours=6, level=TWO),
    Scenario(name="8 models, 1 device, idle, sleep", models=8, devices=1, rate_per_s=0.03, hours=20),
    Scenario(name="8 models, 1 device, cold, saturated", models=8, devices=1, rate_per_s=0.03, hours=20, level=COLD),
    Scenario(name="5 models in turn on 4 places, sleep", models=5, devices=2, rate_per_s=0.05, hours=3, cycle=True,
             gib=(14, 14), awake_bytes=36 * GIB),
)  # fmt: skip


def world(scenario: Scenario, seed: int, arrivals: Path | None = None) -> tuple[Trace, DesiredState, Node, Costs]:
    dice = random.Random(f"{scenario.name} {seed}")
    names = [f"org/m{i:02}" for i in range(scenario.models)]
    low, high = map(math.log, scenario.gib)
    sizes = {name: int(math.exp(dice.uniform(low, high)) * GIB) for name in names}
    costs = {
        name: costs_of_weights(weights, awake_bytes=scenario.awake_bytes or min(6 * weights // 5 + 4 * GIB, 76 * GIB))
        for name, weights in sizes.items()
    }
    dice.shuffle(names)
    never = IdleSpec(sleep_after_s=None)  # memory decides, not time
    specs = {name: ModelSpec(model=name, eviction_level=scenario.level, idle=never) for name in names}
    devices = tuple(Device(index=i, name="gpu", total_bytes=80 * GIB) for i in range(scenario.devices))
    node = Node(name="here", devices=devices, host_budget_bytes=scenario.host_gib * GIB, sleep_frees_memory=True)
    return _trace(scenario, names, seed, dice, arrivals), DesiredState(generation=1, models=specs), node, costs


def _trace(scenario: Scenario, names: Sequence[str], seed: int, dice: random.Random, arrivals: Path | None) -> Trace:
    span_s = scenario.hours * HOUR_S
    if scenario.cycle:
        every_s = dice.uniform(0.5, 1.5) / scenario.rate_per_s
        return round_robin(names, requests=int(span_s / every_s), every_s=every_s, busy_s=5.0)
    if arrivals is not None:
        return drawn(arrivals_of(arrivals), names, span_s, scenario.rate_per_s, dice)
    return generate(names, span_s=span_s, rate_per_s=scenario.rate_per_s, seed=seed, habits=HABITS)


Windows = Mapping[int, tuple[float, float]]  # of ten minutes: requests per second, variation of the times between them


@cache
def arrivals_of(path: Path) -> tuple[Windows, ...]:
    """By client. CSV, .gz or not: client, window (its number, of ten minutes), requests_per_s, interarrival_cv."""
    found: dict[str, dict[int, tuple[float, float]]] = defaultdict(dict)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            rate_cv = float(row["requests_per_s"]), float(row["interarrival_cv"])
            found[row["client"]][int(row["window"])] = rate_cv
    return tuple(found.values())


def drawn(
    clients: Sequence[Windows], names: Sequence[str], span_s: float, rate_per_s: float, dice: random.Random
) -> Trace:
    """One client per model, its rate scaled to the model's popularity, from a moment of the week on."""
    count = math.ceil(span_s / WINDOW_S)
    last = max(max(client) for client in clients)
    shares = [1 / (rank + 1) ** HABITS.zipf for rank in range(len(names))]
    found: list[Request] = []
    for name, share, client in zip(names, shares, dice.sample(clients, len(names)), strict=True):
        begin = dice.randrange(max(1, last - count))
        windows = [client.get(begin + i, (0.0, 1.0)) for i in range(count)]
        mean = sum(rate for rate, _ in client.values()) / (last + 1)
        scale = rate_per_s * share / sum(shares) / mean
        for i, (rate, cv) in enumerate(windows):
            if rate <= 0:
                continue
            shape = 1 / min(10.0, max(0.3, cv)) ** 2
            at = dice.random() * dice.gammavariate(shape, 1 / (rate * scale * shape))
            while at < WINDOW_S:
                busy_s = HABITS.busy_s * math.exp(HABITS.busy_spread * dice.gauss(0, 1))
                found.append(Request(round(i * WINDOW_S + at, 3), name, round(busy_s, 3)))
                at += dice.gammavariate(shape, 1 / (rate * scale * shape))
    return Trace.of(found)


# one run, and what they come to

POLICIES = ("lru", "cost", "future")


def measured(scenario: Scenario, seed: int, policy: str, arrivals: Path | None) -> dict[str, float]:
    trace, desired, node, costs = world(scenario, seed, arrivals)
    victims = VictimPolicy.COST if policy == "cost" else VictimPolicy.LRU
    foresight = clairvoyant(trace, desired, costs) if policy == "future" else None
    result = simulate(trace, desired, (node,), costs, Policy(victims=victims), foresight=foresight)
    waits = result.waits_s[int(WARM_UP * len(trace)) :]
    return {
        "requests": len(waits), "waiting_s": sum(waits), "p99_s": quantile(waits, 0.99), "longest_s": max(waits),
        "swaps": result.total("swaps"), "lost": result.refused + result.unserved,
    }  # fmt: skip


Runs = Mapping[str, Sequence[Mapping[str, float]]]  # by policy, in the order of the seeds


def ratio(runs: Runs, one: str, other: str, seeds: Sequence[int]) -> float:
    a, b = (sum(runs[policy][i]["waiting_s"] for i in seeds) for policy in (one, other))
    return a / b if b else math.inf if a else 1.0


def interval(runs: Runs, one: str, other: str) -> tuple[float, float]:
    """Of the ratio, 95 %: seeds drawn again with both runs of each, a thousand times."""
    dice, count = random.Random(1), len(runs[one])
    found = sorted(ratio(runs, one, other, dice.choices(range(count), k=count)) for _ in range(1000))
    return found[25], found[974]


def line(name: str, runs: Runs, told: Runs) -> str:
    """`told`: of the seeds that the one who knows the future was run with, too."""
    every, some = range(len(runs["lru"])), range(len(told["future"]))

    def mean(policy: str, what: str) -> float:
        return sum(run[what] for run in runs[policy]) / len(every)

    low, high = interval(runs, "cost", "lru")
    seeds = f"{len(every)}" if len(every) == len(some) else f"{len(every)}, {len(some)}"
    longest = {policy: max(run["longest_s"] for run in runs[policy]) for policy in ("lru", "cost")}
    seeds = str(len(every)) if len(every) == len(some) else f"{len(every)}, {len(some)}"
    return (
        f"| {name} | {seeds} | {mean('lru', 'waiting_s') / mean('lru', 'requests'):.2f} "
        f"| {ratio(runs, 'cost', 'lru', every):.2f} ({low:.2f} to {high:.2f}) "
        f"| {ratio(told, 'future', 'lru', some):.2f} | {ratio(told, 'cost', 'future', some):.2f} "
        f"| {mean('lru', 'p99_s'):.0f} / {mean('cost', 'p99_s'):.0f} | {longest['lru']:.0f} / {longest['cost']:.0f} "
        f"| {mean('lru', 'swaps'):.0f} / {mean('cost', 'swaps'):.0f} |"
    )


def table(chosen: Sequence[Scenario], done: Mapping[str, Mapping[str, float]], seeds: Sequence[int]) -> Iterator[str]:
    """Of the scenarios that have results, for the seeds that both policies have been run with."""
    yield (
        "| scenario | seeds | LRU, s per request | cost / LRU | knows the future / LRU | cost / knows the future "
        "| p99, s | longest, s | swaps |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    logs: dict[tuple[str, str], list[float]] = {("cost", "lru"): [], ("future", "lru"): [], ("cost", "future"): []}
    for scenario in chosen:
        keys = {policy: [key_of(scenario, seed, policy) for seed in seeds] for policy in POLICIES}
        there = [i for i in range(len(seeds)) if all(keys[policy][i] in done for policy in ("lru", "cost"))]
        both = [i for i in there if keys["future"][i] in done]
        if both:
            runs = {policy: [done[keys[policy][i]] for i in there] for policy in ("lru", "cost")}
            told = {policy: [done[keys[policy][i]] for i in both] for policy in POLICIES}
            yield line(scenario.name, runs, told)
            for (one, other), found in logs.items():
                of = runs if (one, other) == ("cost", "lru") else told
                found.append(math.log(ratio(of, one, other, range(len(of["lru"])))))
    if logs["cost", "lru"]:
        cost, future, apart = (math.exp(sum(found) / len(found)) for found in logs.values())
        yield f"| geometric mean | | | {cost:.2f} | {future:.2f} | {apart:.2f} | | | |"
    lost = sum(run["lost"] for run in done.values())
    yield f"\nOf two numbers the first is of LRU. Longest: of all seeds. Requests that nobody served: {lost:.0f}."


def key_of(scenario: Scenario, seed: int, policy: str) -> str:
    return f"{scenario} {seed} {policy}"


def kept(path: Path | None) -> dict[str, dict[str, float]]:
    """Results of earlier runs, one JSON array of key and result per line."""
    return {} if path is None or not path.exists() else dict(map(json.loads, path.read_text().splitlines()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="three seeds")
    parser.add_argument("--arrivals", type=Path, help="CSV: client,window,requests_per_s,interarrival_cv")
    parser.add_argument("--keep", type=Path, help="results are kept in this file; what it has is not run again")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = range(1, 1 + (3 if options.quick else options.seeds))
    chosen = [each for each in SCENARIOS if not (options.arrivals and each.cycle)]
    done = kept(options.keep)
    os.nice(10)
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        asked = {
            pool.submit(measured, scenario, seed, policy, options.arrivals): key
            for seed in seeds for scenario in chosen for policy in POLICIES
            if (key := key_of(scenario, seed, policy)) not in done
        }  # fmt: skip
        for ended in concurrent.futures.as_completed(asked):
            done[asked[ended]] = ended.result()
            if options.keep is not None:
                with options.keep.open("a") as file:
                    file.write(json.dumps([asked[ended], ended.result()]) + "\n")
    print("\n".join(table(chosen, done, seeds)))


if __name__ == "__main__":
    main()
