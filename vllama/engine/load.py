"""How busy a vLLM is, by its own /metrics. Pure."""

import math
import re
from dataclasses import dataclass

# The cache's gauge was called gpu_cache_usage_perc until vLLM 0.10 (#18354).
_GAUGE = re.compile(
    r"^(?:vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)|(process_max_fds))"
    r"(?:\{.*\})?[ \t]+(\S+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """Summed over all engines and models behind one address. `kv_cache_usage` is their mean, 0 to 1; None: untold."""

    running: int
    waiting: int
    kv_cache_usage: float | None = None
    max_fds: int | None = None  # files and connections one of its processes may have open


def load_of(metrics: str) -> EngineLoad | None:
    """None: these are no metrics of vLLM, or it was told to keep none."""
    said: dict[str, list[float]] = {}
    for ours, process, text in _GAUGE.findall(metrics):
        if (value := _number(text)) is not None:
            said.setdefault(ours or process, []).append(value)
    if "num_requests_running" not in said:
        return None
    usages = said.get("kv_cache_usage_perc") or said.get("gpu_cache_usage_perc")
    return EngineLoad(
        running=round(sum(said["num_requests_running"])),
        waiting=round(sum(said.get("num_requests_waiting", ()))),
        kv_cache_usage=sum(usages) / len(usages) if usages else None,
        max_fds=round(min(said["process_max_fds"])) if "process_max_fds" in said else None,
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
