"""The state of every model, for people: one ModelStatus each. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from vllama.domain.decision import Plan
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Asleep, EngineObservation, Loading, Operation, Snapshot, Verb
from vllama.domain.reason import Reason
from vllama.domain.status import ModelStatus, phase_of
from vllama.planner.timing import left_of, left_of_load
from vllama.planner.view import best_engines


def statuses(
    desired: DesiredState, snapshot: Snapshot, plan: Plan | None, *, wall_minus_clock: float
) -> Sequence[ModelStatus]:
    """Sorted by model. `plan` is the latest (None: the loop has not planned yet), and only gives the reasons."""
    engines = best_engines(snapshot)
    operations = {op.model: op for op in snapshot.operations}
    said = {decision.model: (decision.reason, decision.message) for decision in plan.decisions} if plan else {}
    models = sorted({*desired.models, *engines, *operations})
    return tuple(
        replace(
            _status(desired, model, engines.get(model), operations.get(model), said.get(model), wall_minus_clock),
            ready_in_s=_ready_in_s(snapshot, engines.get(model), operations.get(model), model),
        )
        for model in models
    )


def _ready_in_s(
    snapshot: Snapshot, engine: EngineObservation | None, operation: Operation | None, model: str
) -> float | None:
    """Of who comes up; only where it was measured before, and that time is not over."""
    footprint, left = snapshot.footprints.get(model), None
    if operation is not None and operation.verb in {Verb.START, Verb.WAKE}:
        left = left_of(operation, footprint, snapshot.taken_at)
    elif operation is None and engine is not None and isinstance(engine.state, Loading):
        left = left_of_load(engine.started_at, footprint, snapshot.taken_at)
    return None if left is None or left.unknown or left.assumed else left.seconds


def _status(  # noqa: PLR0917  # one call, just above
    desired: DesiredState,
    model: str,
    engine: EngineObservation | None,
    operation: Operation | None,
    said: tuple[Reason, str] | None,
    wall_minus_clock: float,
) -> ModelStatus:
    spec, demand = desired.models.get(model), desired.demand_of(model)
    reason, message = said if said is not None else (Reason.NOT_WANTED, "Not looked at yet.")
    used = demand.last_used_at
    return ModelStatus(
        model=model,
        phase=phase_of(engine, operation, draining=demand.admission_closed_at is not None),
        reason=reason,
        message=message,
        declared=spec is not None and spec.declared,
        aliases=spec.aliases if spec else (),
        adapters=tuple(adapter for adapter, _ in spec.lora) if spec else (),
        node=engine.node if engine else None,
        devices=engine.devices if engine else (),
        further=engine.further if engine else (),
        pid=engine.pid if engine else None,
        port=engine.port if engine else None,
        sleep_level=int(engine.state.level) if engine and isinstance(engine.state, Asleep) else None,
        memory_bytes=_holds(engine),
        in_flight=demand.in_flight,
        waiting=demand.waiting - demand.expected,
        last_used=None if used is None else used + wall_minus_clock,
        started=None if engine is None else engine.started_at + wall_minus_clock,
        pinned=spec.pin if spec else False,
        replica=spec.replica if spec else 1,
        replica_of=spec.replica_of if spec else None,
        stage=(engine.state.stage or None) if engine and isinstance(engine.state, Loading) else None,
    )


def _holds(engine: EngineObservation | None) -> int | None:
    """What a sleeper was measured to hold per device; of any other what it may grow to."""
    if engine is None:
        return None
    if isinstance(engine.state, Asleep) and engine.measured_bytes is not None:
        return engine.measured_bytes
    return engine.memory_bytes
