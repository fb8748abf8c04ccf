"""One engine as the machine has it: processes, memory, requests. It does what vLLM does, bad manners included."""

import asyncio
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vllama.domain.observed import Device, Place
from vllama.domain.spec import SleepLevel
from vllama.runtime.base import EngineProcess, ProcessExit


class Stage(enum.Enum):
    LOADING = "loading"
    AWAKE = "awake"
    FALLING_ASLEEP = "falling asleep"
    ASLEEP = "asleep"
    WAKING = "waking"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Running:
    """A request that the engine computes. `ended` says how: finished, or broken."""

    number: int
    began: float
    duration_s: float
    ended: asyncio.Future[str]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Engine:
    """`devices` are those of the machine, numbered through over all hosts. Bytes are per device. `held` is what it
    has of each of its devices now; `full` when awake, `residue` asleep, `told_residue` what was known of that before.

    `leader_gone`: the API server has ended; memory stays held until `stage` is GONE and `held` is nothing.
    `excuse`: a fault hit it, or may have: what is done to it from then on cuts nobody unfairly.
    """

    engine_id: str
    model: str
    spec_hash: str
    devices: tuple[int, ...]
    planned: int
    share: float
    full: int
    residue: int
    told_residue: int
    weights: int
    pid: int
    port: int
    started_at: float
    log: Path
    log_offset: int
    manager: str
    replica: int = 1
    stage: Stage = Stage.LOADING
    held: int = 0
    level: SleepLevel | None = None
    discarded: bool = False  # its weights are garbage until they are read again
    pinned_host: int = 0
    pinned_by: str = ""
    leader_gone: bool = False
    exit_code: int | None = None
    hung: bool = False
    still: bool = False  # its core stands still: its server says that it is well, and no request ends
    still_since: float = 0.0
    finished: int = 0
    core_dead: bool = False
    mute: bool = False  # its port is open and /health never answers
    stops_slowly_s: float | None = None  # SIGTERM does nothing; None: it obeys
    immortal_until: float = 0.0
    lies: bool = False
    tells_level: bool = True
    excuse: str | None = None
    stopping: bool = False
    operation: str | None = None
    operated_by: str = ""  # which manager began it
    profiling_since: float | None = None
    running: dict[int, Running] = field(default_factory=dict)
    hanging: list[asyncio.Future[None]] = field(default_factory=list)  # callers that wait for an answer of it

    def __str__(self) -> str:
        return f"{self.model}{f'#{self.replica}' if self.replica > 1 else ''}/{self.engine_id}"

    @property
    def alive(self) -> bool:
        return self.stage is not Stage.GONE and not self.leader_gone

    @property
    def listens(self) -> bool:
        return self.alive and self.stage is not Stage.LOADING

    @property
    def answers(self) -> bool:
        return self.listens and not self.hung and not self.mute

    def may_hold(self) -> int:
        """The most that it may come to hold without anybody's further doing."""
        if self.stage is Stage.GONE:
            return self.held
        if self.stage in {Stage.ASLEEP, Stage.FALLING_ASLEEP} or self.leader_gone or self.core_dead:
            return self.held
        return max(self.planned, self.held)

    def as_process(self, manager: str, places: Sequence[Place], host: str) -> EngineProcess:
        """`places`: where it is, by hosts and their own devices. `host`: where it answers."""
        first, *further = places
        return EngineProcess(
            engine_id=self.engine_id, model=self.model, spec_hash=self.spec_hash, node=first.node, host=host,
            devices=first.devices, further=tuple(further), memory_bytes=self.planned, pid=self.pid, port=self.port,
            started_at=self.started_at, log=self.log, log_offset=self.log_offset,
            exit=ProcessExit(code=self.exit_code) if self.leader_gone else None, adopted=self.manager != manager,
            replica=self.replica,
        )  # fmt: skip

    def say(self, line: str) -> None:
        with self.log.open("a") as log:
            log.write(line + "\n")


@dataclass(slots=True, eq=False)
class Gpu:
    """`foreign` is what other people's programs hold. `readable` False: the driver does not tell what is used."""

    index: int
    total: int
    foreign: int = 0
    readable: bool = True

    def as_device(self, used: int, index: int, *, readable: bool) -> Device:
        """`index`: on its host."""
        return Device(
            index=index, name=f"GPU {index}", total_bytes=self.total,
            used_bytes=used if self.readable and readable else None,
        )  # fmt: skip
