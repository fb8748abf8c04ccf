"""What every place that runs engines can do. The controller knows nothing else of processes and devices."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from vllama.domain.action import Start
from vllama.domain.observed import Footprint, Node, Place, Placed
from vllama.domain.replicas import replica_name
from vllama.domain.spec import ModelSpec
from vllama.engine.address import Address
from vllama.engine.command import EngineCommand
from vllama.engine.logs import LogMark, LogPart

LOOPBACK = "127.0.0.1"
LOCAL = "local"  # the node's name where there is only this machine


class RuntimeFailed(Exception):
    """An engine could not be started or stopped; the text says why, for a person."""


class NoProcess(RuntimeFailed):
    """The machine starts no further process, whosever it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessExit:
    """`code` is None where nobody could tell (not our child); negative: killed by that signal."""

    code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """A file that engines write to, and the node where it lies. str() is for people."""

    node: str
    path: Path

    def __str__(self) -> str:
        return str(self.path) if self.node == LOCAL else f"{self.node}:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProcess(Placed):
    """One engine as its runtime sees it: processes, never health.

    `exit` is set once the leader (the API server) is gone, while anything else of it may still live; of one that spans
    nodes once any of its ranks is, and `further` are then those places where something is left or nobody can tell.
    `adopted`: it was started by an earlier manager. `model` is what it serves, `replica` which of its engines it is.
    It is part `rank` of `ranks`: others than 0 are seen from their own node only. It answers at `host` and `port`, to
    whoever shows its `key`; None: to everybody who gets there. `control_url` as in Address.
    """

    engine_id: str
    model: str
    spec_hash: str
    node: str
    devices: tuple[int, ...]
    memory_bytes: int
    pid: int
    port: int
    started_at: float
    log: Path
    log_offset: int = 0  # where this engine's part of the file begins
    exit: ProcessExit | None = None
    adopted: bool = False
    replica: int = 1
    host: str = LOOPBACK
    key: str | None = field(default=None, repr=False)
    control_url: str | None = None
    further: tuple[Place, ...] = ()
    rank: int = 0
    ranks: int = 1
    ended: LogFile | None = None  # where the rank wrote to that ended first, if that is not rank 0

    @property
    def log_file(self) -> LogFile:
        return LogFile(node=self.node, path=self.log)

    @property
    def last_words(self) -> LogFile:
        """Where to look for why it ended."""
        return self.log_file if self.ended is None else self.ended

    @property
    def name(self) -> str:
        """What it is planned for as."""
        return replica_name(self.model, self.replica)

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def address(self) -> Address:
        return Address(base_url=self.base_url, control_url=self.control_url, key=self.key)

    @property
    def is_far(self) -> bool:
        """It answers over a network, which may fail where the engine does not."""
        return self.host != LOOPBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Memory at one moment. `measured_bytes`: engine id -> most bytes it holds on any of its devices, where visible.

    `host_bytes`: engine id -> host memory of all its processes, pinned copies included, where it is not the device
    itself. `troubles`: what somebody should see to, one sentence each that names the device.
    """

    nodes: tuple[Node, ...]
    measured_bytes: Mapping[str, int] = field(default_factory=dict)
    host_bytes: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()


class Runtime(Protocol):
    """Level-triggered: `engines` and `read` tell all there is, `watch` only says that they may tell something new."""

    async def recover(self) -> None:
        """Once, before anything else: find what an earlier manager left. RuntimeFailed: nothing can be done here."""
        ...

    async def engines(self) -> tuple[EngineProcess, ...]:
        """Every engine that is ours, adopted ones and the remains of dead ones included."""
        ...

    async def read(self) -> Reading:
        """Devices and host memory now. A device that cannot be read has `used_bytes` None.

        RuntimeFailed when there is no answer at all.
        """
        ...

    async def settled(self, node: str, devices: Collection[int]) -> bool:
        """Wait until what these devices have in use stands still: two looks in a row agree. Unknown agrees with itself.

        False: it moved for 5 s, or there was no answer. To be awaited after whatever changes memory.
        """
        ...

    async def start(self, engine_id: str, spec: ModelSpec, action: Start) -> EngineProcess:
        """Spawn; returns before it is ready. Idempotent by `engine_id`. RuntimeFailed when it cannot be spawned.

        NoProcess where nothing can.
        """
        ...

    async def stop(self, engine_id: str, *, deadline_s: float) -> None:
        """The whole tree is gone and its memory seen back when this returns. RuntimeFailed when that did not happen."""
        ...

    async def listening(self, engine_id: str) -> bool:
        """Whether the engine's own processes listen on its port: who answers there is who was started.

        RuntimeFailed: that cannot be seen now.
        """
        ...

    async def moved_bytes(self, engine_id: str) -> int:
        """What its processes have read and written, and what is on disk of its model: it changes while something moves,
        a download by somebody else included.
        """
        ...

    async def footprint(self, spec: ModelSpec) -> Footprint | None:
        """What the model will take, before it ever ran; None: nothing is known. OSError, ValueError: why not."""
        ...

    async def preview(self, spec: ModelSpec, action: Start, *, port: int | None) -> EngineCommand:
        """What `start` would run, for people: without secrets, and of the environment what is not our own.

        `port` None: one is found when it starts. RuntimeFailed: why it could not be started.
        """
        ...

    def log_of(self, model: str) -> LogFile:
        """Where its engines write to, whether it is there yet or not; each replica's have their own."""
        ...

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        """What was appended to it since, as in `read_part`. Never raises; what cannot be read now is empty."""
        ...

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        """Its last lines, as in `read_tail`. Never raises."""
        ...

    async def cached_models(self) -> tuple[str, ...]:
        """Ids of the models that lie complete in the model cache."""
        ...

    def watch(self, bell: Callable[[], None]) -> None:
        """Ring when an engine exits or appears."""
        ...

    async def close(self) -> None:
        """Let go of watches and handles. Engines are left as they are."""
        ...
