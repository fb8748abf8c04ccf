"""Models as Ollama's lists have them. Times are seconds of the wall clock."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase
from vllama.engine.about import About
from vllama.engine.kinds import Task
from vllama.engine.tasks import EMBEDS, GENERATES
from vllama.gateway.ollama.lines import timestamp

FOREVER = "9999-12-31T23:59:59Z"
LOADED = frozenset({Phase.READY, Phase.DRAINING})
# Keys of a config.json, and what they are called in model_info behind the architecture.
_INFO = (
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_hidden_layers", "block_count"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("vocab_size", "vocab_size"),
)


def listed(status: ModelStatus, about: About, *, since: float) -> list[dict[str, Any]]:
    """Its entries in /api/tags, one for each name. `since`: the time of what has none."""
    said = {
        "modified_at": _time(about.modified_at or since),
        "size": about.size_bytes,
        "digest": about.digest,
        "details": details(about),
    }
    return [{"name": name, "model": name} | said for name in (status.model, *status.aliases, *status.adapters)]


def loaded(status: ModelStatus, spec: ModelSpec, about: About, *, idle_s: float | None, now: float) -> dict[str, Any]:
    """Its entry in /api/ps. `idle_s`: after so long without a use it sleeps; None: never."""
    held = (status.memory_bytes or 0) * max(1, len(status.devices))
    used = now if status.in_flight or status.last_used is None else status.last_used
    return {
        "name": status.model,
        "model": status.model,
        "size": held,
        "digest": about.digest,
        "details": details(about),
        "expires_at": FOREVER if spec.pin or idle_s is None else _time(used + idle_s),
        "size_vram": held,
        "context_length": about.max_model_len or 0,
    }


def shown(spec: ModelSpec, about: About, tasks: Collection[str] | None, *, since: float) -> dict[str, Any]:
    """The answer of /api/show. `tasks`: what vLLM said that the model can do; None: it was never asked."""
    return {
        "license": about.licence,
        "modelfile": f"# models.yaml of vllama says how it is run.\nFROM {spec.model}\n",
        "parameters": "",
        "template": about.chat_template,
        "details": details(about),
        "model_info": _model_info(about),
        "capabilities": _capabilities(about, tasks),
        "modified_at": _time(about.modified_at or since),
    }


def details(about: About) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": about.family,
        "families": [about.family] if about.family else [],
        "parameter_size": _short(about.parameters),
        "quantization_level": about.quantization,
    }


def _model_info(about: About) -> dict[str, Any]:
    family = about.family or "unknown"
    info: dict[str, Any] = {"general.architecture": family}
    if about.parameters is not None:
        info["general.parameter_count"] = about.parameters
    if about.max_model_len is not None:
        info[f"{family}.context_length"] = about.max_model_len
    counts = ((name, about.config.get(key)) for key, name in _INFO)
    return info | {f"{family}.{name}": count for name, count in counts if isinstance(count, int)}


def _capabilities(about: About, tasks: Collection[str] | None) -> list[str]:
    if tasks is None:
        tasks = {Task.CHAT: GENERATES, Task.EMBEDDING: EMBEDS}.get(about.task, frozenset())
    found = ["embedding"] if not EMBEDS.isdisjoint(tasks) else []
    if not GENERATES.isdisjoint(tasks):
        more = {"tools": about.calls_tools, "vision": about.sees, "thinking": about.thinks}
        found += ["completion", *(name for name, has in more.items() if has)]
    return found


def _short(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.2f}M"


def _time(seconds: float) -> str:
    return timestamp(datetime.fromtimestamp(seconds, UTC))
