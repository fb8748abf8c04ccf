"""The four things that can be done to engines: frozen, specific, no choice left to whoever carries them out."""

from dataclasses import dataclass

from vllama.domain.observed import Place, Placed
from vllama.domain.spec import SleepLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Placed):
    """A new engine. `memory_bytes` is per device; `gpu_memory_utilization` that of the smallest device's total."""

    model: str
    spec_hash: str
    node: str
    devices: tuple[int, ...]
    memory_bytes: int
    gpu_memory_utilization: float
    kv_cache_bytes: int | None = None
    further: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep(Placed):
    model: str
    engine_id: str
    node: str
    devices: tuple[int, ...]
    level: SleepLevel  # 1 or 2
    further: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(Placed):
    """`level` is the one it sleeps at: level 2 wakes in three steps."""

    model: str
    engine_id: str
    node: str
    devices: tuple[int, ...]
    level: SleepLevel
    further: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Placed):
    """`cut`: what is in flight may be cut. False: given up if a request slipped in since the plan was made.

    Of an engine that spans nodes it names those places that can be reached.
    """

    model: str
    engine_id: str
    node: str
    devices: tuple[int, ...]
    cut: bool = False
    further: tuple[Place, ...] = ()


Action = Start | Sleep | Wake | Stop
