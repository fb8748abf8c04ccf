"""Whether an engine moves, by its own /metrics. Pure.

All of these are told by the core at the end of a step, so that they stand still with it, whoever comes and goes at the
API server. A prompt of a million tokens moves none of the counters before its end, but fills the cache step by step.
"""

import math
import re
from dataclasses import dataclass

_LINE = re.compile(
    r"^vllm:(?P<name>generation_tokens_total|prompt_tokens_total|iteration_tokens_total_count|request_success_total"
    r"|kv_cache_usage_perc|gpu_cache_usage_perc)(?:\{(?P<labels>.*)\})?[ \t]+(?P<value>\S+)",
    re.MULTILINE,
)
_ABORTED = 'finished_reason="abort"'  # counted by the API server, when a client leaves


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Two that are equal, with time between them: nothing moved. Sums over all cores behind one address."""

    generation_tokens: float = 0.0
    prompt_tokens: float = 0.0
    steps: float = 0.0
    finished: float = 0.0
    cache_usage: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.generation_tokens:.0f} tokens generated, {self.prompt_tokens:.0f} read, "
            f"{100 * self.cache_usage:.1f}% of the KV cache in use"
        )


_FIELDS = {
    "generation_tokens_total": "generation_tokens",
    "prompt_tokens_total": "prompt_tokens",
    "iteration_tokens_total_count": "steps",
    "request_success_total": "finished",
    "kv_cache_usage_perc": "cache_usage",
    "gpu_cache_usage_perc": "cache_usage",
}


def progress_of(metrics: str) -> Progress | None:
    """None: these are no metrics of vLLM, or it was told to keep none."""
    sums: dict[str, float] = {}
    for found in _LINE.finditer(metrics):
        if _ABORTED in (found["labels"] or ""):
            continue
        try:
            value = float(found["value"])
        except ValueError:
            continue
        if math.isfinite(value):
            name = _FIELDS[found["name"]]
            sums[name] = sums.get(name, 0.0) + value
    return Progress(**sums) if "generation_tokens" in sums else None
