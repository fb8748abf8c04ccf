"""What was seen, when. Nothing here is remembered from what we asked for; unknown is a value."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from vllama.domain.spec import SleepLevel

DeviceKey = tuple[str, int]  # the node's name, and the device's index there


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Some devices of one node."""

    node: str
    devices: tuple[int, ...]


class Placed:
    """What is on devices: those of `node`, and where one node is too small those of others (`further`).

    Rank 0, which owns the endpoint, is at `node`; the other ranks are in `further`, in their order.
    """

    __slots__ = ()
    node: str
    devices: tuple[int, ...]
    further: tuple[Place, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        return (Place(node=self.node, devices=self.devices), *self.further)

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.node, *(place.node for place in self.further)) if self.further else (self.node,)

    @property
    def keys(self) -> tuple[DeviceKey, ...]:
        """All of its devices, those of rank 0 first."""
        first = tuple((self.node, device) for device in self.devices)
        if not self.further:
            return first
        return first + tuple((place.node, device) for place in self.further for device in place.devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignProcess:
    """Somebody else's process that holds device memory. `memory_bytes` None: the driver does not tell.

    `name` is the kernel's short one, never a command line, which may hold secrets; "?": not to be seen.
    """

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU, or the host's memory when vLLM runs on the CPU.

    `used_bytes` is what everybody holds, ours included, as the driver tells it; None: not known, and then
    nothing may be started there. `reserve_bytes` stays free. `foreign` is for people: it names who holds what of
    it where that can be seen, and need not add up. `unified`: the GPU's memory is the host's own.
    `foreign_bytes` is what others than our engines held when `used_bytes` was read; None: nobody told them apart then.
    """

    index: int
    name: str
    total_bytes: int
    used_bytes: int | None = 0
    reserve_bytes: int = 0
    foreign: tuple[ForeignProcess, ...] = ()
    unified: bool = False
    foreign_bytes: int | None = None


class NodeState(enum.StrEnum):
    """What of a node is believed.

    LOST: it is silent, or was declared dead. What is there may go on, so its devices are nobody's to take, its memory
    counts as held, and nothing there serves; nothing is asked of it, and its models may be started elsewhere.
    FENCED: it is back, but has not said yet that nothing of ours is left there: the same, until it has.
    """

    READY = "ready"
    LOST = "lost"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine. `host_budget_bytes` bounds the copies that level-1 sleepers keep in host memory.

    `host_available_bytes`: what of the host's memory is free now, or would be if it were asked for; None: not known.
    `linked`: the largest groups of devices of which every two talk to each other directly (NVLink), ascending; a set
    is linked where one group holds all of it. (): not known, or none.
    `said`: why it is not ready, for people. `seen_at`: when its memory was read (None: with the snapshot).
    """

    name: str
    devices: tuple[Device, ...]
    host_budget_bytes: int
    sleep_frees_memory: bool  # False for vLLM on CPU: /sleep answers 200 and frees nothing
    host_available_bytes: int | None = None
    linked: tuple[tuple[int, ...], ...] = ()
    state: NodeState = NodeState.READY
    said: str = ""
    seen_at: float | None = None
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """The process lives and has never answered for its model. `progress_at`: its log's last sign of life.

    `part`: how much of a usual load is behind it, from 0 to 1, by what its log spoke of last, and `stage` what that is,
    in words for people.
    """

    progress_at: float
    part: float = 0.0
    stage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awake:
    """Answers, has the right served model, and does not sleep. `ready_at`: since when."""

    ready_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asleep:
    level: SleepLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """The leader is gone: unasked, so a failure whatever the code (vLLM exits 0 when its core dies)."""

    code: int | None  # None: it was not our child, nobody could tell us
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Lives, but must not be used again: a sleep or wake failed, or it did not do what it said."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Probes fail or time out since then. Never free memory, never a reason for a second start."""

    since: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """All of it is on nodes that are not ready: nobody knows how it is, and nothing is asked of it."""

    cause: str


EngineState = Loading | Awake | Asleep | Exited | Broken | Unknown | Lost


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineObservation(Placed):
    """One engine. Bytes are per device: planned when awake, and what was measured last (None: not visible).

    Of one that spans nodes a part that is known to have ended is in none of its places any more.
    """

    engine_id: str
    model: str
    spec_hash: str
    node: str
    devices: tuple[int, ...]
    memory_bytes: int
    state: EngineState
    started_at: float
    measured_bytes: int | None = None
    first_residue_bytes: int | None = None  # per device, after its first sleep; what it grew from
    host_copy_bytes: int = 0  # pinned host memory since its first level-1 sleep; comes back when the process ends
    host_measured_bytes: int | None = None  # host memory of all its processes, for people; None: not told
    pid: int | None = None
    port: int | None = None
    further: tuple[Place, ...] = ()


class Verb(enum.StrEnum):
    START = "start"
    SLEEP = "sleep"
    WAKE = "wake"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Placed):
    """An action that the actuator is carrying out. It holds its devices. `level`: of a sleep."""

    verb: Verb
    engine_id: str
    model: str
    node: str
    devices: tuple[int, ...]
    started_at: float
    memory_bytes: int  # of a start: what the engine will hold
    level: SleepLevel | None = None
    further: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a model takes, in bytes: estimated, then learned. Per device, but for `weights_bytes`, the whole engine's.

    `fixed_bytes` is what it takes awake beside its KV cache (weights, graphs, activations); None: not known well
    enough to size the KV cache by, and vLLM does that from what it may use. `cache_bytes` is the KV cache that
    `awake_bytes` has room for; None: what it takes awake was declared. `discardable`: nothing in it is known to come
    back wrong from level 2.
    """

    awake_bytes: int
    asleep_bytes: int
    weights_bytes: int
    fixed_bytes: int | None = None
    cache_bytes: int | None = None
    discardable: bool = False
    refused_levels: frozenset[SleepLevel] = frozenset()  # that did not free memory, or not come back from, when tried
    load_s: float | None = None  # as last measured
    sleep_s: float | None = None
    wake_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashes:
    """Failures of a model in a row: how many, when last, why."""

    count: int
    last_at: float
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything seen, at `taken_at` (seconds, monotonic). `footprints` and `crashes` are by model."""

    taken_at: float
    nodes: tuple[Node, ...]
    engines: tuple[EngineObservation, ...] = ()
    operations: tuple[Operation, ...] = ()
    footprints: Mapping[str, Footprint] = field(default_factory=dict)
    crashes: Mapping[str, Crashes] = field(default_factory=dict)
