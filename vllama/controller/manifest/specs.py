"""Layers of settings, laid on each other, as a ModelSpec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllama.controller.manifest.entry import Entry
from vllama.controller.manifest.environment import Environment
from vllama.controller.manifest.schema import IdleKeys, PolicyKeys
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, OnConflict, Policy, Setting, VictimPolicy


def device_problem(entry: Entry) -> str | None:
    """The arithmetic, where `devices` lists fewer than the engine needs. A longer list means: choose among these."""
    devices, needed = entry.keys.devices, device_count(entry)
    if devices is None or len(devices) >= needed:
        return None
    tensor, pipeline = entry.settings.tensor_parallel_size or 1, entry.settings.pipeline_parallel_size or 1
    return (
        f"lists {len(devices)}, but tensor_parallel_size {tensor} x pipeline_parallel_size {pipeline} "
        f"needs {needed} GPUs; list at least {needed}, or write auto"
    )


def says_devices(entry: Entry) -> bool:
    """Whether this layer has a word in that arithmetic."""
    said = entry.keys.model_fields_set | entry.settings.model_fields_set
    return not said.isdisjoint({"devices", "tensor_parallel_size", "pipeline_parallel_size"})


def device_count(entry: Entry) -> int:
    tensor, pipeline = entry.settings.tensor_parallel_size, entry.settings.pipeline_parallel_size
    if tensor is None and pipeline is None:
        return len(entry.keys.devices or (0,))
    return (tensor or 1) * (pipeline or 1)


def model_spec(
    model: str, entry: Entry, environment: Environment, *, config: Entry | None = None, declared: bool = True
) -> ModelSpec:
    """`config`: what its config_file says. Everything that nobody said keeps ModelSpec's own default."""
    keys, count = entry.keys, device_count(entry)
    devices = keys.devices
    if "devices" not in keys.model_fields_set and count == 1 and environment.device is not None:
        devices = (environment.device,)
    said = {
        "max_queue": keys.max_queue,
        "queue_timeout_s": keys.queue_timeout,
        "load_timeout_s": keys.load_timeout,
        "stall_timeout_s": keys.stall_timeout,
        "on_conflict": None if keys.on_conflict is None else OnConflict(keys.on_conflict),
    }
    return ModelSpec(
        model=model,
        launch=_launch(entry, environment, config),
        aliases=keys.aliases or (),
        lora=tuple(_adapters(entry, environment).items()),
        device_count=count,
        devices=devices,
        node=keys.node,
        memory_bytes=keys.memory,
        idle=_idle(keys.idle),
        eviction_level=keys.eviction_level,
        sleep_mode=not any(_declines_sleep_mode(each.keys.extra_args or {}) for each in (entry, config) if each),
        pin=bool(keys.pin) and declared,
        auto_start=bool(keys.auto_start) and declared,
        priority=keys.priority or 0,
        max_concurrency=keys.max_concurrency,
        declared=declared,
        replicas=(keys.replicas or 1) if declared else 1,
        **_without_none(said),
    )


def policy_of(keys: PolicyKeys) -> Policy:
    said = {
        "reserve_bytes": keys.reserve,
        "host_memory_bytes": keys.host_memory,
        "only_declared": keys.only_declared,
        "drain_deadline_s": keys.drain_deadline,
        "stop_deadline_s": keys.stop_deadline,
        "sleep_deadline_s": keys.sleep_deadline,
        "wake_deadline_s": keys.wake_deadline,
        "fairness_bound_s": keys.fairness,
        "ageing_s": keys.ageing,
        "probe_deadline_s": keys.probe_deadline,
        "probe_interval_s": keys.probe_interval,
        "queue_memory_bytes": keys.queue_memory,
        "stalled_client_s": keys.stalled_client,
        "victims": None if keys.victims is None else VictimPolicy(keys.victims),
    }
    return Policy(**_without_none(said))


def _launch(entry: Entry, environment: Environment, config: Entry | None) -> LaunchSpec:
    keys = entry.keys
    settings: dict[str, Setting | None] = entry.settings.model_dump()
    if adapters := _adapters(entry, environment):
        settings["enable_lora"] = True
        settings["lora_modules"] = tuple(f"{name}={path}" for name, path in adapters.items())
    return LaunchSpec(
        settings=tuple(sorted(_without_none(settings).items())),
        extra_args=tuple(sorted(_without_none(keys.extra_args or {}).items())),
        env=tuple(sorted(_without_none(keys.env or {}).items())),
        vllm=_at_home(keys.vllm, environment),
        path=placed(keys.path, environment),
        port=keys.port,
        config_file=None if config is None else placed(keys.config_file, environment),
        config=() if config is None else _told(config),
    )


def _told(config: Entry) -> tuple[tuple[str, Setting], ...]:
    said = {**config.settings.model_dump(), **(config.keys.extra_args or {})}
    return tuple(sorted(_without_none(said).items()))


def placed(path: str | None, environment: Environment) -> str | None:
    """As the file means it: from the user's home, or from its own directory."""
    return _anchored(_at_home(path, environment), environment)


def _adapters(entry: Entry, environment: Environment) -> dict[str, str]:
    """Name -> path, or the id of a repository."""
    return {
        name: where
        for name, path in (entry.keys.lora or {}).items()
        if (where := _at_home(path, environment)) is not None
    }


def _declines_sleep_mode(extra_args: Mapping[str, Setting | None]) -> bool:
    return extra_args.get("enable-sleep-mode") is False or extra_args.get("no-enable-sleep-mode") is True


def _idle(keys: IdleKeys | None) -> IdleSpec:
    if keys is None:
        return IdleSpec()
    sleep_after_s = keys.sleep_after if "sleep_after" in keys.model_fields_set else IdleSpec().sleep_after_s
    return IdleSpec(sleep_after_s=sleep_after_s, level=keys.level, stop_after_s=keys.stop_after)


def _anchored(path: str | None, environment: Environment) -> str | None:
    """Engines run in no directory of the user's, so a relative path is made to count from the file's."""
    return path if path is None or environment.directory is None else str(Path(environment.directory, path))


def _at_home(path: str | None, environment: Environment) -> str | None:
    if path is None or environment.home is None or not path.startswith("~/"):
        return path
    return environment.home.rstrip("/") + path[1:]


def _without_none(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
