"""All that is known of one model, on one page: for `vllama show`. Pure but for what it is handed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllama.controller.events import Event
from vllama.controller.figures import Figures
from vllama.controller.manifest.effective import Setting
from vllama.controller.profiles import Profile
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Awake, Crashes, EngineObservation, Footprint, Snapshot
from vllama.domain.spec import SleepLevel
from vllama.domain.status import ModelStatus
from vllama.planner.backoff import retry_at
from vllama.planner.ledger import Ledger
from vllama.planner.view import View

LATELY = 12  # events


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelVerdict:
    """`why_not` None: it may sleep at this level."""

    level: int
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Its engine. Bytes are per device, but for the host copy; `started_at` is of the wall clock. `current`: it was
    started with the settings that are in force.
    """

    engine_id: str
    node: str
    devices: tuple[int, ...]
    pid: int | None
    port: int | None
    started_at: float
    current: bool
    memory_bytes: int
    measured_bytes: int | None
    host_copy_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How it would be started now, alone with what is pinned; `problem`: why it would not. Without secrets, and of the
    environment only what is not our own.
    """

    argv: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """In a row. Times are of the wall clock, `retry_in_s` is None where it may be tried now."""

    count: int
    last_at: float
    cause: str
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """`tasks` as vLLM names them (None: not known before it has run). `lately`: its latest events."""

    status: ModelStatus
    settings: tuple[Setting, ...]
    figures: Figures
    levels: tuple[LevelVerdict, ...]
    engine: Running | None
    tasks: tuple[str, ...] | None
    command: Command
    failures: Failures | None
    lately: tuple[Event, ...]
    log: str


def running(engine: EngineObservation | None, spec_hash: str, *, wall_minus_clock: float) -> Running | None:
    if engine is None:
        return None
    return Running(
        engine_id=engine.engine_id, node=engine.node, devices=engine.devices, pid=engine.pid, port=engine.port,
        started_at=engine.started_at + wall_minus_clock, current=engine.spec_hash == spec_hash,
        memory_bytes=engine.memory_bytes, measured_bytes=engine.measured_bytes, host_copy_bytes=engine.host_copy_bytes,
    )  # fmt: skip


def failures(crashes: Crashes | None, now: float, *, wall_minus_clock: float) -> Failures | None:
    if crashes is None:
        return None
    left = retry_at(crashes) - now
    return Failures(
        count=crashes.count, last_at=crashes.last_at + wall_minus_clock, cause=crashes.cause,
        retry_in_s=left if left > 0 else None,
    )  # fmt: skip


def lately(events: Iterable[Event], model: str) -> tuple[Event, ...]:
    """Oldest first."""
    return tuple([event for event in events if event.model == model][-LATELY:])


def levels(
    desired: DesiredState, snapshot: Snapshot, model: str, profile: Profile, engine: EngineObservation
) -> tuple[LevelVerdict, ...]:
    """`engine` is the model's, or one as it would be. Each level by itself, as if somebody had asked for it."""
    ledger = Ledger(View(desired=desired, snapshot=snapshot, now=snapshot.taken_at))
    spec, footprint = desired.models[model], snapshot.footprints.get(model)
    found: list[LevelVerdict] = []
    for level in (SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED):
        why = _tried(profile, footprint, level) or ledger.why_not_sleep(spec, engine, level)
        if why is None and level is SleepLevel.DISCARDED and not (footprint and footprint.discardable):
            why = "only where it is asked for by number: nothing says that it comes back right from it"
        found.append(LevelVerdict(level=int(level), why_not=why))
    return tuple(found)


def _tried(profile: Profile, footprint: Footprint | None, level: SleepLevel) -> str | None:
    if level in profile.refused_levels:
        return profile.why_refused.get(int(level)) or "it did not do what it should when it was tried"
    if footprint is not None and level in footprint.refused_levels:
        return "vLLM is known to fail after it with these settings"
    return None


def supposed(model: str, node: str, devices: Sequence[int], memory_bytes: int, now: float) -> EngineObservation:
    """An engine of a model that has none, awake."""
    return EngineObservation(
        engine_id="", model=model, spec_hash="", node=node, devices=tuple(devices), memory_bytes=memory_bytes,
        state=Awake(ready_at=now), started_at=now,
    )  # fmt: skip
