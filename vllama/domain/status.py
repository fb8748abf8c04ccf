"""Phases: one word about a model for people. Derived, and never an input to a decision."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from vllama.domain.observed import (
    Asleep,
    Awake,
    Broken,
    EngineObservation,
    Exited,
    Loading,
    Lost,
    Operation,
    Place,
    Unknown,
    Verb,
)


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
        case Lost():
            return Phase.LOST
        case _:
            assert_never(engine.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One line of `vllama ps`. Times are seconds of the wall clock (they are for people); None: never, or none.

    Each replica has its own; `model` is its name, and that of a further one's model is `replica_of`. On its way up
    `stage` is what its engine's log spoke of last, in words, and `ready_in_s` how long it takes still, as it did last
    time (None: it never was measured, or takes longer than then).
    """

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
    replica: int = 1
    replica_of: str | None = None
    stage: str | None = None
    ready_in_s: float | None = None
    further: tuple[Place, ...] = ()  # of an engine that spans nodes


BEST_FIRST = (
    Phase.READY, Phase.WAKING, Phase.STARTING, Phase.DRAINING, Phase.ASLEEP, Phase.STOPPING, Phase.UNKNOWN,
    Phase.FAILED, Phase.LOST, Phase.STOPPED,
)  # fmt: skip


def one_per_model(statuses: Iterable[ModelStatus]) -> tuple[ModelStatus, ...]:
    """A model with several replicas as the best of them, with what all of them do."""
    found: dict[str, list[ModelStatus]] = {}
    for status in statuses:
        found.setdefault(status.replica_of or status.model, []).append(status)
    return tuple(each[0] if len(each) == 1 else _together(model, each) for model, each in found.items())


def _together(model: str, each: list[ModelStatus]) -> ModelStatus:
    best = min(each, key=lambda status: (BEST_FIRST.index(status.phase), status.replica))
    named = next((status for status in each if status.replica_of is None), best)
    used = [status.last_used for status in each if status.last_used is not None]
    return replace(
        best, model=model, replica=1, replica_of=None, aliases=named.aliases, adapters=named.adapters,
        servers=named.servers, in_flight=sum(status.in_flight for status in each),
        waiting=sum(status.waiting for status in each), last_used=max(used, default=None),
    )  # fmt: skip
