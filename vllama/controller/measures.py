"""What /metrics tells of the loop, of memory and of models, taken at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vllama.controller.histogram import Histogram
from vllama.controller.tally import LAG_BOUNDS_S, Sums
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Footprint, Snapshot
from vllama.domain.spec import ModelSpec
from vllama.planner.books import Books, books_of
from vllama.planner.ledger import host_copy_bytes, need_bytes, residue_bytes
from vllama.planner.placement import allowed
from vllama.planner.view import best_engines


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """`footprints`: by model, bytes by what they are for: of a device, but for weights and the copy in host memory,
    which are the whole engine's. `failures`: by model, in a row. `oldest_s`: by model, how long the oldest of those
    that wait has waited; 0: nobody waits. `lags`: of the event loop.
    """

    sums: Sums = field(default_factory=Sums)
    lags: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS_S))
    books: Books = field(default_factory=lambda: Books(taken_at=0.0, nodes=()))
    footprints: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    oldest_s: Mapping[str, float] = field(default_factory=dict)


def measures_of(desired: DesiredState, snapshot: Snapshot, sums: Sums, lags: Histogram) -> Measures:
    """Pure, and for a thread: of a thousand models it takes tens of milliseconds."""
    models = [spec.model for spec in desired.models.values() if spec.replica_of is None]
    return Measures(
        sums=sums, lags=lags, books=books_of(desired, snapshot), footprints=_footprints(models, desired, snapshot),
        failures=_in_a_row(models, desired, snapshot), oldest_s=_oldest_s(models, desired, snapshot),
    )  # fmt: skip


def _footprints(models: list[str], desired: DesiredState, snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """What is not known is left out."""
    engines = best_engines(snapshot)
    found: dict[str, dict[str, int]] = {}
    for model in models:
        spec, footprint = desired.models[model], snapshot.footprints.get(model)
        engine = engines.get(model)
        parts = {
            "awake": _most_bytes(spec, footprint, snapshot) if engine is None else engine.memory_bytes,
            "asleep": residue_bytes(footprint, spec.device_count),
            "host_copy": host_copy_bytes(footprint), "weights": _weights_bytes(footprint),
        }  # fmt: skip
        found[model] = {state: size for state, size in parts.items() if size}
    return found


def _most_bytes(spec: ModelSpec, footprint: Footprint | None, snapshot: Snapshot) -> int:
    """On the largest device that it may use."""
    if spec.memory_bytes is not None:
        return spec.memory_bytes
    may = ((node, frozenset(allowed(spec, node))) for node in snapshot.nodes)
    totals = (device.total_bytes for node, indices in may for device in node.devices if device.index in indices)
    return need_bytes(spec, footprint, max(totals, default=0))


def _weights_bytes(footprint: Footprint | None) -> int:
    """0: not known, or not downloaded yet."""
    return 0 if footprint is None else footprint.weights_bytes


def _in_a_row(models: list[str], desired: DesiredState, snapshot: Snapshot) -> dict[str, int]:
    """The most of any replica."""
    found = dict.fromkeys(models, 0)
    for name, crashes in snapshot.crashes.items():
        spec = desired.models.get(name)
        if spec is not None:
            found[spec.served_name] = max(found[spec.served_name], crashes.count)
    return found


def _oldest_s(models: list[str], desired: DesiredState, snapshot: Snapshot) -> dict[str, float]:
    """Everybody waits for the first replica."""
    since = {model: desired.demand_of(model).oldest_waiting_at for model in models}
    return {model: 0.0 if at is None else max(0.0, snapshot.taken_at - at) for model, at in since.items()}
