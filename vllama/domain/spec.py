"""What models.yaml says, as values: one ModelSpec per model, and the Policy of the whole."""

import enum
import hashlib
import json
from dataclasses import dataclass, field

from vllama.domain.units import GIB, MIB

Scalar = str | int | float | bool
Setting = Scalar | tuple[Scalar, ...]

DEFAULT_LOAD_TIMEOUT_S = 600.0


class SleepLevel(enum.IntEnum):
    """vLLM's levels 1 and 2. STOP is what the older tool called level 3."""

    WEIGHTS_OFFLOADED = 1
    DISCARDED = 2
    STOP = 3


class OnConflict(enum.StrEnum):
    """What a request for a model does when memory must be made: wait its turn, or be refused."""

    QUEUE = "queue"
    REFUSE = "refuse"


class VictimPolicy(enum.StrEnum):
    """Which of those that are idle makes room: the least recently used, or who is cheapest to bring back."""

    LRU = "lru"
    COST = "cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Everything that the engine's command line and environment are made of.

    A change here needs a restart; a change anywhere else in ModelSpec does not.
    `settings` are vLLM's own names with `_` (gpu_memory_utilization, max_model_len, ...), sorted by name. `config` is
    what `config_file` says, for vLLM to read it there; settings and extra_args win over it.
    """

    settings: tuple[tuple[str, Setting], ...] = ()
    extra_args: tuple[tuple[str, Setting], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    vllm: str | None = None
    path: str | None = None
    port: int | None = None
    config_file: str | None = None
    config: tuple[tuple[str, Setting], ...] = ()

    def setting(self, name: str) -> Setting | None:
        return dict((*self.config, *self.settings)).get(name)

    @property
    def said(self) -> tuple[tuple[str, Setting], ...]:
        """All that vLLM is told; what is later wins."""
        return (*self.config, *self.settings, *self.extra_args)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleSpec:
    """The ladder for a model that nobody calls. None means never."""

    sleep_after_s: float | None = 1800.0
    level: SleepLevel | None = None  # None: auto
    stop_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model, or one of its further replicas: an engine of its own that serves `replica_of`, as number `replica`."""

    model: str
    launch: LaunchSpec = field(default_factory=LaunchSpec)
    aliases: tuple[str, ...] = ()
    lora: tuple[tuple[str, str], ...] = ()  # adapters: (name, path); their flags are among the settings
    device_count: int = 1  # tensor_parallel_size x pipeline_parallel_size
    devices: tuple[int, ...] | None = None  # None: auto
    node: str | None = None  # the only one that it may be on; None: any
    memory_bytes: int | None = None  # per device when awake; None: auto
    idle: IdleSpec = field(default_factory=IdleSpec)
    eviction_level: SleepLevel | None = None  # None: auto
    sleep_mode: bool = True  # False: its engine is started without vLLM's sleep mode, and can only stop
    pin: bool = False
    auto_start: bool = False
    priority: int = 0
    max_concurrency: int | None = None
    max_queue: int = 1000
    queue_timeout_s: float = 600.0
    load_timeout_s: float = DEFAULT_LOAD_TIMEOUT_S  # without a sign of progress, not in all
    stall_timeout_s: float = 600.0  # with requests in flight and nothing that moves; a step of a huge prompt takes less
    on_conflict: OnConflict = OnConflict.QUEUE
    declared: bool = True  # False: found in the model cache, runs with the defaults
    replicas: int = 1  # engines, this one included
    replica: int = 1
    replica_of: str | None = None  # None: it is the first
    spec_hash: str = field(init=False, repr=False, compare=False)  # a plan asks for it of every engine, often

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec_hash", self._hash())

    @property
    def served_name(self) -> str:
        """What clients and vLLM call it, whichever of its engines is meant."""
        return self.replica_of or self.model

    def has_adapter(self, name: str) -> bool:
        return any(name == adapter for adapter, _ in self.lora)

    def _hash(self) -> str:
        """12 hex digits over everything that needs a restart when it changes."""
        launch = self.launch
        parts: tuple[object, ...] = (
            self.served_name, launch.settings, launch.extra_args, launch.env, launch.vllm, launch.path, launch.port,
            self.device_count, self.devices, self.memory_bytes, self.sleep_mode,
        )  # fmt: skip
        if launch.config_file is not None:  # by what it says, wherever it lies
            parts = (*parts, launch.config)
        if self.node is not None:
            parts = (*parts, {"node": self.node})
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What holds for all models. `reserve_bytes` None: 512 MiB on real devices, nothing on simulated ones."""

    reserve_bytes: int | None = None
    host_memory_bytes: int | None = None  # None: half of what the cgroup allows
    only_declared: bool = False
    drain_deadline_s: float = 120.0  # how long admission may stay closed for somebody else's sake
    stop_deadline_s: float = 30.0  # SIGTERM to SIGKILL
    sleep_deadline_s: float = 120.0  # 235 GB take 6 s; a slow host that pins memory for the first time, many times that
    wake_deadline_s: float = 600.0  # level 2 reads the weights from disk
    fairness_bound_s: float = 30.0  # a waiter past this may have a busy engine drained
    ageing_s: float = 60.0  # one step of priority is worth this much waiting
    probe_deadline_s: float = 60.0  # past it, an engine of unknown state is failed
    probe_interval_s: float = 2.0  # between two looks at an engine of another machine, whose end nobody tells at once
    queue_memory_bytes: int = 256 * MIB  # held by the bodies of requests that wait, of all models together
    stalled_client_s: float = 300.0  # a client that takes nothing of its answer would keep its model awake
    victims: VictimPolicy = VictimPolicy.LRU


DEFAULT_RESERVE_BYTES = 512 * MIB
DEFAULT_RESIDUE_BYTES = 1331 * MIB  # 1.3 GiB: CUDA context, graphs and the like of a sleeping engine, one GPU
DEFAULT_RESIDUE_PARALLEL_BYTES = 5 * GIB // 2  # per GPU, with tensor parallelism (NCCL buffers)
HOST_COPY_FACTOR = 1.5  # pinned allocations round up; measured 1.15 to 1.9 x the weights
