"""Phases: one word about a model for people. Derived, and never an input to a decision."""

import enum
from dataclasses import dataclass
from typing import assert_never

from vllama.domain.observed import Asleep, Awake, Broken, EngineObservation, Exited, Loading, Operation, Unknown, Verb


class Phase(enum.StrEnum):
    STOPPED = "Stopped"
    STARTING = "Starting"
    READY = "Ready"
    DRAINING = "Draining"
    ASLEEP = "Asleep"
    WAKING = "Waking"
    STOPPING = "Stopping"
    FAILED = "Failed"
    LOST = "Lost"
    UNKNOWN = "Unknown"


_UNDER_WAY = {
    Verb.START: Phase.STARTING,
    Verb.SLEEP: Phase.DRAINING,
    Verb.WAKE: Phase.WAKING,
    Verb.STOP: Phase.STOPPING,
}


def phase_of(engine: EngineObservation | None, operation: Operation | None, *, draining: bool = False) -> Phase:
    """The phase of a model from its engine and the operation under way on it, either of which may be absent."""
    if operation is not None:
        return _UNDER_WAY[operation.verb]
    if engine is None:
        return Phase.STOPPED
    match engine.state:
        case Loading():
            return Phase.STARTING
        case Awake():
            return Phase.DRAINING if draining else Phase.READY
        case Asleep():
            return Phase.ASLEEP
        case Exited() | Broken():
            return Phase.FAILED
        case Unknown():
            return Phase.UNKNOWN
        case _:
            assert_never(engine.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One line of `vllama ps`. Times are seconds of the wall clock (they are for people); None: never, or none."""

    model: str
    phase: Phase
    reason: str
    message: str
    declared: bool
    aliases: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    node: str | None = None
    devices: tuple[int, ...] = ()
    pid: int | None = None
    port: int | None = None
    sleep_level: int | None = None
    memory_bytes: int | None = None
    in_flight: int = 0
    waiting: int = 0
    last_used: float | None = None
    started: float | None = None  # its engine
    pinned: bool = False
    servers: tuple[str, ...] = ()  # URLs of those that have it, too or only
