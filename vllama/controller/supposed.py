"""A model as it would be after a change of models.yaml, as far as planning asks. None of it ever reaches an engine."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vllama.controller.figures import Figures
from vllama.domain.decision import Decision, Plan
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, OnConflict, Setting, SleepLevel

# What an estimate of its memory reads.
SIZING = frozenset({
    "dtype", "quantization", "max_model_len", "kv_cache_dtype", "kv_cache_memory_bytes", "gpu_memory_utilization",
    "tensor_parallel_size", "pipeline_parallel_size", "calculate_kv_scales", "enable_lora", "speculative_config",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Supposed:
    """`settings`: those of SIZING. `new_engine`: its engine would be another, by whatever setting."""

    model: str
    new_engine: bool
    settings: tuple[tuple[str, Setting], ...] = ()
    device_count: int = 1
    devices: tuple[int, ...] | None = None
    node: str | None = None
    memory_bytes: int | None = None
    sleep_mode: bool = True
    pin: bool = False
    auto_start: bool = False
    priority: int = 0
    sleep_after_s: float | None = None
    level: SleepLevel | None = None
    stop_after_s: float | None = None
    eviction_level: SleepLevel | None = None
    on_conflict: OnConflict = OnConflict.QUEUE

    def over(self, old: ModelSpec) -> ModelSpec:
        """`old` with all this: for planning only."""
        kept = tuple(each for each in old.launch.settings if each[0] not in SIZING)
        settings = tuple(sorted((*kept, *(each for each in self.settings if each[0] in SIZING))))
        launch = replace(old.launch, settings=settings) if self.new_engine else old.launch
        spec = replace(
            old, model=self.model, launch=launch, device_count=self.device_count, devices=self.devices,
            node=self.node,
            memory_bytes=self.memory_bytes, sleep_mode=self.sleep_mode, pin=self.pin, auto_start=self.auto_start,
            priority=self.priority, eviction_level=self.eviction_level, on_conflict=self.on_conflict, declared=True,
            idle=IdleSpec(sleep_after_s=self.sleep_after_s, level=self.level, stop_after_s=self.stop_after_s),
        )  # fmt: skip
        if self.new_engine and spec.spec_hash == old.spec_hash:  # by what planning does not ask for
            changed = LaunchSpec(settings=(*launch.settings, ("supposed", True)), path=launch.path, env=launch.env)
            spec = replace(spec, launch=changed)
        return spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """`plans` to rest after the change, and without it (`anyway`); how it would be started if it had the devices for
    itself and for what is pinned; what it takes. `before` None: there is no such model yet.
    """

    plans: Sequence[Plan]
    anyway: Sequence[Plan]
    start: Decision
    before: Figures | None
    after: Figures
