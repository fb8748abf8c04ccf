"""docs/metrics.md, made from the code: python -m tests.docs.metrics > docs/metrics.md"""

from collections.abc import Iterable, Iterator
from typing import get_args

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.metrics.everything import everything
from vllama.controller.tally import FOR_OTHERS, Cause
from vllama.domain.observed import NodeState, Verb
from vllama.domain.status import Phase
from vllama.gateway.metrics.engines import written_engines
from vllama.gateway.metrics.exposition import exposition
from vllama.gateway.metrics.finished import Outcome

HEAD = """\
# Metrics

Made from the code by `python -m tests.docs.metrics`; a test compares.

`GET /metrics` is vllama's own, for Prometheus; with API keys any key opens it. `GET /metrics/engines` is what the
engines say of themselves (`vllm:...`), each with its model as a label. Take
[manifests/prometheus/scrape.yml](../manifests/prometheus/scrape.yml) for both,
[alerts.yml](../manifests/prometheus/alerts.yml) beside it for alerts that say what to do, and import
[manifests/grafana/vllama.json](../manifests/grafana/vllama.json) into Grafana 10 or later: it asks for the data source,
and can be narrowed to servers, machines and models.

- Counters and histograms begin anew with the server. A series of a counter with labels is there from its first event
  on.
- **model** is always a model's id, however a request named it: of models.yaml, of the model cache, or of an engine that
  was found. What clients make up becomes no label; requests that were refused before their model was known have an
  empty one.
- **Replicas** have no label of their own. What they do, hold and wait for is added up under their model: operations,
  durations, requests, bytes on a device, seconds of residency (two replicas that are ready for a minute are two
  minutes). `vllama_model_phase` is the best of them, `vllama_model_replicas` how many are in which phase,
  `vllama_model_footprint_bytes` what one of them takes, `vllama_engine_failures_in_a_row` the worst of them.
- What is not known has no sample: `vllama_device_memory_used_bytes`, `_foreign_bytes` and `_room_bytes` while the
  driver does not tell what is used.
- On each device `vllama_device_memory_bytes` is the sum of `_reserve_bytes`, `_foreign_bytes`, `_room_bytes` and all
  `_engine_bytes`: the numbers that decisions are made with, as `vllama memory` shows them.
"""
LABELS = """
## Labels

| label | is |
|---|---|
"""
TABLE = """
| name | type | labels | meaning |
|---|---|---|---|
"""
PARTS = (
    ("Requests", ("vllama_request", "vllama_answer", "vllama_prompt", "vllama_completion", "vllama_queue",
                  "vllama_time_to", "vllama_oldest", "vllama_pulls")),
    ("Models", ("vllama_model",)),
    ("Starts, sleeps, swaps and failures", ("vllama_operation", "vllama_evictions", "vllama_swaps",
                                            "vllama_engine_f")),
    ("Machines", ("vllama_node",)),
    ("Memory", ("vllama_device", "vllama_host")),
    ("Servers that others run", ("vllama_server",)),
    ("vllama itself", ("vllama_", "process_")),
)  # fmt: skip


def labels() -> dict[str, str]:
    """What their values are; the rest says itself."""
    return {
        "model": "a model's id",
        "phase": _words(Phase),
        "outcome": f"{_words(get_args(Outcome))}; ok: the answer was passed on whole, an engine's 4xx too",
        "code": "the class of the status, `1xx` (websockets) to `5xx`; of a client that went before, `4xx`",
        "operation": _words(Verb),
        "reason": "why it was decided, as in `vllama events` (`Demanded`, `IdleTooLong`, `EngineExited`, ...; "
        f"`StartFailed`: an engine that could not even be spawned); of evictions {_words(sorted(FOR_OTHERS))}",
        "cause": f"who wanted it: {_words(Cause)} (`vllama start`, `auto_start`, or its settings changed while it ran)",
        "loaded": "`true`: the engine had been ready; `false`: it failed while it loaded",
        "state": f"of a footprint `awake`, `asleep`, `weights`, `host_copy`; of a machine {_words(NodeState)}",
        "node, device, name": "the machine, a device's index on it, and what it is",
        "server": "its URL, as in models.yaml",
        "type": "the condition, as at /health",
        "task": "a background task",
    }


def page() -> str:
    families = [*_of(exposition(everything()).decode()), *_of(written_engines(["org/A"], [""]).decode())]
    parts = "".join(
        f"\n## {title}\n{TABLE}{''.join(map(_line, found))}" for title, found in _sorted_out(families)
    )  # fmt: skip
    return HEAD + parts + LABELS + "".join(f"| {label} | {what} |\n" for label, what in labels().items())


def _of(text: str) -> Iterator[Metric]:
    return iter(text_string_to_metric_families(text))


def _sorted_out(families: Iterable[Metric]) -> Iterator[tuple[str, list[Metric]]]:
    """Each in the first part that it belongs to."""
    left = list(families)
    for title, beginnings in PARTS:
        yield title, [family for family in left if family.name.startswith(beginnings)]
        left = [family for family in left if not family.name.startswith(beginnings)]


def _line(family: Metric) -> str:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    found = {label: None for sample in family.samples for label in sample.labels if label != "le"}
    return f"| `{name}` | {family.type} | {', '.join(found)} | {family.documentation} |\n"


def _words(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


if __name__ == "__main__":
    print(page(), end="")
