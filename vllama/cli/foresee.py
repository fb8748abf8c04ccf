"""What a change of models.yaml would lead to: as the server foresees it, or as far as can be told without one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.cli.survey import look
from vllama.cli.wiring import real_devices
from vllama.controller.manifest.load import Manifest
from vllama.controller.supposed import SIZING
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Footprint, Snapshot
from vllama.domain.spec import ModelSpec
from vllama.engine.cache import find_on_disk
from vllama.engine.estimate import WeightsEstimate, estimate, footprint_of
from vllama.engine.platform import Platform
from vllama.planner.suppose import start_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """Bytes per device, awake; None: not known. `start`: how it would be started here if nothing else ran."""

    before_bytes: int | None
    after_bytes: int | None
    device_count: int
    reason: str | None = None
    start: str | None = None


def wish_of(old: ModelSpec, new: ModelSpec) -> dict[str, Any]:
    """`new` as the server is asked about it: what planning needs, and nothing that an engine is started with."""
    said = dict(new.launch.said)
    return {
        "model": new.model, "new_engine": old.spec_hash != new.spec_hash,
        "settings": {name: value for name, value in said.items() if name in SIZING and not isinstance(value, tuple)},
        "device_count": new.device_count, "devices": None if new.devices is None else list(new.devices),
        "node": new.node,
        "memory_bytes": new.memory_bytes, "sleep_mode": new.sleep_mode, "pin": new.pin, "auto_start": new.auto_start,
        "priority": new.priority, "sleep_after_s": new.idle.sleep_after_s, "level": new.idle.level,
        "stop_after_s": new.idle.stop_after_s, "eviction_level": new.eviction_level, "on_conflict": new.on_conflict,
    }  # fmt: skip


def foresee_here(old: ModelSpec, new: ModelSpec, manifest: Manifest) -> Here:
    """Without a server. Blocks (NVML, disk)."""
    machine = look(os.environ, real_devices)
    before, after = footprint_on_disk(old, machine.platform), footprint_on_disk(new, machine.platform)
    start: Mapping[str, str] = {}
    if machine.reading is not None and (machine.vllm is not None or machine.platform is Platform.CUDA):
        footprints = {} if after is None else {new.model: after}
        desired = DesiredState(generation=0, models={new.model: new}, policy=manifest.policy)
        decision = start_of(
            desired, Snapshot(taken_at=0.0, nodes=machine.reading.nodes, footprints=footprints), 0.0, new.model
        )
        start = {"reason": str(decision.reason.value), "start": decision.message}
    return Here(
        before_bytes=_awake(old, before), after_bytes=_awake(new, after), device_count=new.device_count, **start
    )  # fmt: skip


def footprint_on_disk(spec: ModelSpec, platform: Platform) -> Footprint | None:
    """Estimated from its files, else by what is declared; None: there is neither. Blocks."""
    directory = None if spec.launch.path is None else Path(spec.launch.path)
    if directory is None:
        revision = spec.launch.setting("revision")
        found = find_on_disk(os.environ, spec.model, revision=None if revision is None else str(revision))
        directory = None if found is None else found.directory
    sizes = None if directory is None else estimate(directory, dtype=str(spec.launch.setting("dtype") or "auto"))
    if isinstance(sizes, WeightsEstimate):
        return footprint_of(spec, sizes, platform=platform)
    return None if spec.memory_bytes is None else footprint_of(spec, None, platform=platform)


def _awake(spec: ModelSpec, footprint: Footprint | None) -> int | None:
    if spec.memory_bytes is not None or footprint is None:
        return spec.memory_bytes
    return None if spec.launch.setting("gpu_memory_utilization") is not None else footprint.awake_bytes
