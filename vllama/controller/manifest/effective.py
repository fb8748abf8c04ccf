"""A ModelSpec as the keys of models.yaml that would give it: what is in force for a model, defaults included."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vllama.domain.spec import ModelSpec
from vllama.engine.flags import flag_name
from vllama.engine.shown import masked


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`name` as in `idle.sleep_after` or `env.HF_HOME`. Bytes and seconds are plain numbers; None: never, none or auto.

    `default`: nothing else was said. Secrets are not shown.
    """

    name: str
    value: Any
    default: bool


def effective(spec: ModelSpec) -> tuple[Setting, ...]:
    """First what was said of vLLM's own settings: where nothing was, vLLM decides."""
    usual = dict(_own(ModelSpec(model=spec.model)))
    own = (Setting(name=name, value=value, default=value == usual[name]) for name, value in _own(spec))
    return (*_said(spec), *own)


def _said(spec: ModelSpec) -> Iterator[Setting]:
    launch = spec.launch
    above = {flag_name(name) for name, _ in (*launch.settings, *launch.extra_args)}
    config = tuple(each for each in launch.config if flag_name(each[0]) not in above)
    groups = (
        ("", launch.settings), ("extra_args.", launch.extra_args), ("config_file.", config), ("env.", launch.env),
    )  # fmt: skip
    for prefix, entries in groups:
        for name, value in entries:
            yield Setting(name=prefix + name, value=_masked(name, value), default=False)


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_masked(name, each) for each in value]
    return masked(name, value) if isinstance(value, str) else value


def _own(spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    yield "path", spec.launch.path
    yield "config_file", spec.launch.config_file
    yield "vllm", spec.launch.vllm
    yield "port", spec.launch.port
    yield "memory", spec.memory_bytes
    yield "devices", None if spec.devices is None else list(spec.devices)
    yield "node", spec.node
    yield "replicas", spec.replicas
    yield "aliases", list(spec.aliases)
    yield "pin", spec.pin
    yield "auto_start", spec.auto_start
    yield "priority", spec.priority
    yield "idle.sleep_after", spec.idle.sleep_after_s
    yield "idle.level", _level(spec.idle.level)
    yield "idle.stop_after", spec.idle.stop_after_s
    yield "eviction_level", _level(spec.eviction_level)
    yield "max_concurrency", spec.max_concurrency
    yield "max_queue", spec.max_queue
    yield "queue_timeout", spec.queue_timeout_s
    yield "load_timeout", spec.load_timeout_s
    yield "stall_timeout", spec.stall_timeout_s
    yield "on_conflict", spec.on_conflict.value


def _level(level: int | None) -> int | None:
    return None if level is None else int(level)
