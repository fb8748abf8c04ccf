"""A model as `kubectl describe` would tell of it: its card, the state of each of its engines, and its events. Pure."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vllama.controller.card import Failures, ModelCard
from vllama.controller.events import Event
from vllama.controller.history import PhaseChange
from vllama.domain.demand import WantAsleep, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.replicas import model_of
from vllama.domain.status import ModelStatus, Phase

MOST_EVENTS = 20


class Truth(enum.StrEnum):
    """As Kubernetes has it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCondition:
    """`since`: of the wall clock; None: it was never otherwise, as far as anybody knows."""

    type: str
    status: Truth
    reason: str
    message: str
    since: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """Of one replica. `since`: when it came into its phase, of the wall clock; None: before anybody looked."""

    status: ModelStatus
    since: float | None
    conditions: tuple[ModelCondition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandState:
    """`waits_s`: since when the oldest waits. `wish`: what an operator asked for and nothing has overruled yet."""

    waiting: int
    waits_s: float | None
    in_flight: int
    pinned: bool
    wish: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`events`: one for each reason, the latest, oldest first."""

    card: ModelCard
    demand: DemandState
    engines: tuple[EngineState, ...]
    events: tuple[Event, ...]


def engine_state(status: ModelStatus, changes: Sequence[PhaseChange], failures: Failures | None) -> EngineState:
    """`changes`: of its phase, oldest first; `failures`: in a row."""
    unknown = status.phase is Phase.UNKNOWN
    ready = Truth.UNKNOWN if unknown else _truth(holds=status.phase is Phase.READY)
    there = _truth(holds=status.phase is not Phase.STOPPED)
    sound = Truth.UNKNOWN if unknown else _truth(holds=status.phase is not Phase.FAILED and failures is None)
    said = (status.reason, status.message)
    cause = said if failures is None else ("Failed", f"{failures.count}x in a row, last: {failures.cause}")
    where = f"On {', '.join(f'gpu{device}' for device in status.devices)}." if status.devices else "It has no engine."
    found = (
        ("Ready", ready, *said, _since(changes, {Phase.READY})),
        ("Resident", there, "Resident" if status.devices else "Absent", where, _since(changes, {Phase.STOPPED})),
        ("Sound", sound, *(cause if sound is Truth.FALSE else ("Sound", "It has not failed since it was last ready.")),
         failures.last_at if failures is not None else _since(changes, {Phase.FAILED})),
    )  # fmt: skip
    return EngineState(
        status=status, since=changes[-1].at if changes and changes[-1].after is status.phase else None,
        conditions=tuple(
            ModelCondition(type=kind, status=truth, reason=reason, message=message, since=since)
            for kind, truth, reason, message, since in found
        ),
    )  # fmt: skip


def demand_state(desired: DesiredState, statuses: Iterable[ModelStatus], model: str, now: float) -> DemandState:
    each = list(statuses)
    oldest = [
        demand.oldest_waiting_at
        for name, demand in desired.demand.items()
        if model_of(name) == model and demand.waiting and demand.oldest_waiting_at is not None
    ]
    match desired.overrides.get(model):
        case WantReady():
            wish: str | None = "start"
        case WantStopped():
            wish = "stop"
        case WantAsleep():
            wish = "sleep"
        case None:
            wish = None
    return DemandState(
        waiting=sum(status.waiting for status in each), waits_s=max(0.0, now - min(oldest)) if oldest else None,
        in_flight=sum(status.in_flight for status in each), pinned=any(status.pinned for status in each), wish=wish,
    )  # fmt: skip


def gathered(events: Iterable[Event], model: str) -> tuple[Event, ...]:
    """Those of a model and its replicas, one for each reason: the latest, with how often it was said and since when."""
    last: dict[tuple[str | None, str], Event] = {}
    first: dict[tuple[str | None, str], Event] = {}
    for event in events:
        if event.model is not None and model_of(event.model) == model:
            key = event.model, event.reason
            first.setdefault(key, event)
            last.pop(key, None)
            last[key] = event
    dated = [replace(event, first_at=min(event.first_at or event.at, first[key].at)) for key, event in last.items()]
    return tuple(dated[-MOST_EVENTS:])


def _truth(*, holds: bool) -> Truth:
    return Truth.TRUE if holds else Truth.FALSE


def _since(changes: Sequence[PhaseChange], phases: set[Phase]) -> float | None:
    """When it last came into one of these phases, or left them."""
    for change in reversed(changes):
        before = Phase.STOPPED if change.before is None else change.before
        if (change.after in phases) is not (before in phases):
            return change.at
    return None
