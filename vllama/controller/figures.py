"""What is known of a model's memory and times, where each number comes from, and when it rests. Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllama.controller.profiles import Profile
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Footprint, Snapshot
from vllama.domain.spec import ModelSpec
from vllama.planner.ledger import cache_bytes, host_copy_bytes, need_bytes, residue_bytes
from vllama.planner.placement import allowed
from vllama.planner.view import best_engines


class Source(enum.StrEnum):
    DECLARED = "declared"  # models.yaml says so
    ESTIMATED = "estimated"  # from the model's config and the sizes of its weight files
    ASSUMED = "assumed"  # a constant of ours
    LOG = "log"  # the engine said so in its log
    MEASURED = "measured"  # seen on the device, or by the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Bytes per device, but for `weights_bytes` and `host_copy_bytes`, the whole engine's; seconds. None: not known.

    `cache_bytes`: None also where vLLM sizes its KV cache itself. `sources` is by field, of those that are known.
    `rests_after_s` is its `idle.sleep_after` (None: never), `rests_at` the level (None: auto).
    """

    model: str
    awake_bytes: int | None = None
    asleep_bytes: int | None = None
    weights_bytes: int | None = None
    cache_bytes: int | None = None
    host_copy_bytes: int | None = None
    load_s: float | None = None
    sleep_s: float | None = None
    wake_s: float | None = None
    rests_after_s: float | None = None
    rests_at: int | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)


def figures_of(model: str, desired: DesiredState, snapshot: Snapshot, profile: Profile) -> Figures:
    """`profile` is what was measured of the model with its present settings."""
    spec, footprint = desired.models[model], snapshot.footprints.get(model)
    awake = _awake_bytes(spec, snapshot)
    numbers: dict[str, Any] = {
        "awake_bytes": awake,
        "asleep_bytes": residue_bytes(footprint, spec.device_count),
        "weights_bytes": (footprint.weights_bytes or None) if footprint else None,  # 0: not downloaded yet
        "cache_bytes": None if awake is None else cache_bytes(footprint, awake),
        "host_copy_bytes": host_copy_bytes(footprint) or None,
        "load_s": footprint.load_s if footprint else None,
        "sleep_s": footprint.sleep_s if footprint else None,
        "wake_s": footprint.wake_s if footprint else None,
    }
    sources = _sources(spec, footprint, profile)
    known = {name: source for name, source in sources.items() if numbers[name] is not None}
    level = None if spec.idle.level is None else int(spec.idle.level)
    return Figures(model=model, sources=known, rests_after_s=spec.idle.sleep_after_s, rests_at=level, **numbers)


def _awake_bytes(spec: ModelSpec, snapshot: Snapshot) -> int | None:
    """Where it runs, or on the largest device that it may use."""
    footprint, engine = snapshot.footprints.get(spec.model), best_engines(snapshot).get(spec.model)
    if engine is not None:
        return engine.memory_bytes
    totals = [d.total_bytes for node in snapshot.nodes for d in node.devices if d.index in allowed(spec, node)]
    if not totals and spec.memory_bytes is None:
        return footprint.awake_bytes if footprint else None
    return need_bytes(spec, footprint, max(totals, default=0))


def _sources(spec: ModelSpec, footprint: Footprint | None, profile: Profile) -> dict[str, Source]:
    declared = spec.memory_bytes is not None or spec.launch.setting("gpu_memory_utilization") is not None
    told = Source.ESTIMATED if profile.fixed_bytes is None else Source.LOG
    awake = Source.ASSUMED if footprint is None else told  # nothing known: the most that one is given
    return {
        "awake_bytes": Source.DECLARED if declared else awake,
        "asleep_bytes": Source.ASSUMED if profile.asleep_bytes is None else Source.MEASURED,
        "weights_bytes": Source.ESTIMATED if profile.weights_bytes is None else Source.LOG,
        "cache_bytes": told,
        "host_copy_bytes": Source.ASSUMED,
        "load_s": Source.MEASURED,
        "sleep_s": Source.MEASURED,
        "wake_s": Source.MEASURED,
    }
