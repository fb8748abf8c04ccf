"""Devices and engines without processes or clocks, for plans by the ten thousand. It shares no code with the planner.

Memory is in bytes per device; time is passes. Engines take to the byte what they were planned, in pages, and look at
their start whether that is free, as vLLM does. What is given back comes back passes later. For whatever does not fit it
is found out whose fault that was.
"""

import enum
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.units import GIB, MIB

PAGE_BYTES = 2 * MIB
CONTEXT_BYTES = 300 * MIB


class Stage(enum.Enum):
    SPAWNED = "spawned"  # nothing is held yet
    LOADING = "loading"
    AWAKE = "awake"
    ASLEEP = "asleep"
    FAILED = "failed"


class Fault(enum.Enum):
    """Whose fault it is that something did not fit."""

    PLANNER = "planner"  # that it would not fit could be seen
    FOREIGN = "foreign"  # others took it after the plan's snapshot
    UNSEEN = "unseen"  # nobody told what the sleeper holds, and it holds less than was assumed


@dataclass(slots=True, eq=False)
class Gpu:
    """`total` as the driver says; CUDA has `withheld` less, which the driver calls used. `returning`: (bytes, pass)."""

    index: int
    total: int
    withheld: int
    reserve: int
    foreign: int = 0
    returning: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Engine:
    """`full` is what it holds awake, `residue` asleep (`leak` is part of both), `told` what is assumed of that.

    `seen`: foreign bytes by device when its latest start or wake was planned; `tells`: its memory was visible then.
    """

    engine_id: str
    model: str
    spec_hash: str
    devices: tuple[int, ...]
    planned: int
    share: float
    full: int
    residue: int
    told: int
    copy: int
    started_at: float
    stage: Stage = Stage.SPAWNED
    held: int = 0
    leak: int = 0
    level: int = 0
    pinned: int = 0
    first_residue: int | None = None
    ready_at: float = 0.0
    moves_at: int = 0  # the pass at which its load goes on
    seen: dict[int, int] = field(default_factory=dict)
    tells: bool = True
    cause: str = ""


@dataclass(slots=True, eq=False)
class Change:
    """An operation under way; over at pass `ends_at`."""

    action: Action
    engine: Engine
    started_at: float
    ends_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A start or a wake that found too little memory on a device, or a sleep on the host."""

    fault: Fault
    text: str


class PlanMachine:
    def __init__(self, gpus: tuple[Gpu, ...], dice: random.Random, *, host_budget: int, sleep_frees: bool) -> None:
        self.gpus, self.dice, self.host_budget, self.sleep_frees = gpus, dice, host_budget, sleep_frees
        self.engines: dict[str, Engine] = {}
        self.changes: dict[str, Change] = {}  # by engine
        self.misses: list[Miss] = []
        self.counts = dict.fromkeys(("start", "sleep", "wake", "stop"), 0)
        self.passes = 0

    # memory

    def on(self, index: int) -> Iterator[Engine]:
        return (engine for engine in self.engines.values() if index in engine.devices)

    def used(self, index: int) -> int:
        gpu = self.gpus[index]
        held = sum(engine.held for engine in self.on(index))
        return gpu.withheld + gpu.foreign + held + sum(size for size, _ in gpu.returning)

    def free(self, index: int) -> int:
        return self.gpus[index].total - self.used(index)

    def foreign(self, index: int, size: int) -> None:
        """Others hold this much now: no more than is free, as they run out of memory, too."""
        gpu = self.gpus[index]
        gpu.foreign = max(0, min(size, gpu.foreign + self.free(index)))

    def _give_back(self, engine: Engine, left: int, *, soon: bool = False) -> None:
        """Down to `left`; the driver takes its time."""
        for index in engine.devices:
            delay = 0 if soon or self.dice.random() < 0.5 else self.dice.randint(1, 4)
            if delay and engine.held > left:
                self.gpus[index].returning.append((engine.held - left, self.passes + delay))
        engine.held = min(engine.held, left)

    def pinned(self) -> int:
        return sum(engine.pinned for engine in self.engines.values())

    # what is done to engines

    def spawn(self, engine: Engine) -> None:
        self.engines[engine.engine_id] = engine

    def begin(self, action: Action, engine: Engine, now: float) -> None:
        lasts = self.dice.choice((1, 1, 1, 2))
        for other in self.changes.values():
            assert not set(other.engine.devices) & set(engine.devices), f"{action} during {other.action}"
        self.counts[type(action).__name__.lower()] += 1
        self.changes[engine.engine_id] = Change(action, engine, now, self.passes + lasts)

    def elapse(self, now: float) -> None:
        """One pass further: memory comes back, operations end, loads go on."""
        self.passes += 1
        for gpu in self.gpus:
            if gpu.returning:
                gpu.returning = [(size, at) for size, at in gpu.returning if at > self.passes]
        for change in [change for change in self.changes.values() if change.ends_at <= self.passes]:
            del self.changes[change.engine.engine_id]
            self._end(change, now)
        for engine in list(self.engines.values()):
            if engine.moves_at <= self.passes and engine.engine_id not in self.changes:
                self._load_on(engine, now)

    def _end(self, change: Change, now: float) -> None:
        engine = change.engine
        match change.action:
            case Start():
                self.spawn(engine)
                engine.moves_at = self.passes + self.dice.randint(0, 1)
            case Sleep(level=level):
                self._fall_asleep(engine, int(level))
            case Wake():
                self._wake(engine, now)
            case Stop():
                self._give_back(engine, 0)
                del self.engines[engine.engine_id]

    def _fall_asleep(self, engine: Engine, level: int) -> None:
        if level == 1:
            engine.pinned = engine.copy
            if self.pinned() > self.host_budget:
                self.misses.append(Miss(fault=Fault.PLANNER, text=f"{engine.model}: the host holds {self.pinned()}"))
        if self.dice.random() < 0.02:
            self._fail(engine, "frees nothing", gone=False)
            return
        self._give_back(engine, engine.residue + engine.leak)
        engine.stage, engine.level = Stage.ASLEEP, level

    def _wake(self, engine: Engine, now: float) -> None:
        if self._fits(engine, engine.full + engine.leak, "wake", self._unseen(engine)):
            engine.held, engine.stage, engine.ready_at = engine.full + engine.leak, Stage.AWAKE, now
        else:
            self._fail(engine, "CUDA Error: out of memory", gone=False)

    def _unseen(self, engine: Engine) -> int:
        """By how much a plan that was told nothing of this sleeper must underestimate what its wake takes."""
        if engine.tells:
            return engine.leak if engine.first_residue is None else 0
        return max(0, engine.told - engine.held) + engine.leak

    def _load_on(self, engine: Engine, now: float) -> None:
        if engine.stage is Stage.SPAWNED:
            for index in engine.devices:
                gpu = self.gpus[index]
                short = math.ceil((gpu.total - gpu.withheld) * engine.share) - self.free(index)
                if short > 0:
                    self._miss(engine, index, short, "the check at the start", 0)
                    self._fail(engine, "Free memory on device is less than desired")
                    return
            engine.held, engine.stage = min(CONTEXT_BYTES, engine.full), Stage.LOADING
        elif engine.stage is Stage.LOADING:
            if not self._fits(engine, engine.full, "load", 0):
                self._fail(engine, "CUDA out of memory")
                return
            engine.held, engine.stage, engine.ready_at = engine.full, Stage.AWAKE, now
        engine.moves_at = self.passes + self.dice.choice((1, 1, 2))

    def _fits(self, engine: Engine, size: int, what: str, unseen: int) -> bool:
        for index in engine.devices:
            short = size - engine.held - self.free(index)
            if short > 0:
                self._miss(engine, index, short, what, unseen)
                return False
        return True

    def _miss(self, engine: Engine, index: int, short: int, what: str, unseen: int) -> None:
        grown = max(0, self.gpus[index].foreign - engine.seen[index])
        fault = Fault.FOREIGN if short <= grown else Fault.UNSEEN if short <= grown + unseen else Fault.PLANNER
        there = ", ".join(f"{each.model} {each.stage.value} {each.held / GIB:.3f}" for each in self.on(index))
        text = (
            f"{what} of {engine.model} ({engine.planned / GIB:.3f} GiB) on gpu{index} lacks {short / GIB:.3f}: "
            f"{there}; others {self.gpus[index].foreign / GIB:.3f}, {grown / GIB:.3f} of it new"
        )
        self.misses.append(Miss(fault=fault, text=text))

    def _fail(self, engine: Engine, cause: str, *, gone: bool = True) -> None:
        engine.stage, engine.cause = Stage.FAILED, cause
        if gone:
            self._give_back(engine, 0)


def share_of(utilization: float) -> float:
    """As the command line says it: four decimals, rounded down."""
    return float(max(Decimal(repr(utilization)).quantize(Decimal("0.0001"), ROUND_DOWN), Decimal("0.0001")))


def in_pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def taken(gpu: Gpu, start: Start, fixed: int | None) -> int:
    """What vLLM comes to hold: all that it may use, or what is fixed and the KV cache that it is given."""
    if start.kv_cache_bytes is not None and fixed is not None:
        return in_pages(fixed + start.kv_cache_bytes)
    return in_pages(math.ceil((gpu.total - gpu.withheld) * share_of(start.gpu_memory_utilization)))
