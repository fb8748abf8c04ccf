"""The sums, and what the loop says of models and of itself, in Prometheus' text format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from vllama.controller.condition import Condition
from vllama.controller.measures import Measures
from vllama.controller.servers.status import ServerStatus
from vllama.controller.vitals import Vitals
from vllama.domain.status import ModelStatus
from vllama.gateway.metrics.doings import doings_of
from vllama.gateway.metrics.memory import memory_of
from vllama.gateway.metrics.meters import BOUNDS_S, Meter
from vllama.gateway.metrics.models import models_of
from vllama.gateway.metrics.servers import families_of

_BOUNDS = [*map(floatToGoString, BOUNDS_S), "+Inf"]
_PROCESS = ProcessCollector(registry=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What there is to tell at one moment. `meters`: by model, those of no model under the empty name.

    `statuses`: one for each replica; the label `model` is their model's id.
    """

    version: str
    meters: Mapping[str, Meter]
    statuses: Sequence[ModelStatus]
    conditions: Sequence[Condition]
    servers: Sequence[ServerStatus] = ()
    pulls: int = 0  # under way
    dropped_lines: int = 0
    vitals: Vitals = field(default_factory=Vitals)
    measures: Measures = field(default_factory=Measures)


def exposition(state: State) -> bytes:
    """Reads /proc, so not on the event loop."""
    served = {status.model: status.replica_of or status.model for status in state.statuses}
    return written([
        *_of_requests(state.meters), *models_of(state.statuses), *doings_of(state.measures),
        *memory_of(state.measures, lambda name: served.get(name, name)), *families_of(state.servers), *_of_us(state),
    ])  # fmt: skip


def written(families: Sequence[Metric]) -> bytes:
    return generate_latest(_Families(families))


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_requests(meters: Mapping[str, Meter]) -> Iterator[Metric]:
    yield _requests(meters)
    of = {model: meter for model, meter in meters.items() if model}
    yield _counter("request_bytes", "Bytes of request bodies.", {m: meter.request_bytes for m, meter in of.items()})
    yield _counter("answer_bytes", "Bytes written as answers.", {m: meter.answer_bytes for m, meter in of.items()})
    for name, whose in (("prompt_tokens", "prompts"), ("completion_tokens", "answers")):
        values = {model: getattr(meter, name) for model, meter in of.items()}
        yield _counter(name, f"Tokens of {whose}, as far as engines say so at the end of an answer.", values)
    yield _histogram(
        "queue_seconds", "How long requests waited until an engine took them, or they gave up.",
        {m: ([meter.at_once + meter.waits[0], *meter.waits[1:]], meter.wait_s) for m, meter in of.items()},
    )  # fmt: skip
    yield _histogram(
        "time_to_first_byte_seconds", "From asking the engine to the first byte of its answer's body.",
        {model: (meter.first_bytes, meter.first_byte_s) for model, meter in of.items()},
    )  # fmt: skip
    yield _histogram(
        "request_duration_seconds", "From the last byte of a request to the last of its answer.",
        {model: (meter.durations, meter.duration_s) for model, meter in of.items()},
    )  # fmt: skip


def _counter(name: str, what: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"vllama_{name}", what, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def _requests(meters: Mapping[str, Meter]) -> Metric:
    what = "Requests for models that are over; without a model: refused before it was known."
    family = CounterMetricFamily("vllama_requests", what, labels=["model", "outcome", "code"])
    for model, meter in meters.items():
        sums: dict[tuple[str, str], int] = {}
        for (outcome, status), count in meter.outcomes.items():
            key = outcome, f"{status // 100}xx"
            sums[key] = sums.get(key, 0) + count
        for labels, count in sorted(sums.items()):
            family.add_metric([model, *labels], count)
    return family


def _histogram(name: str, what: str, values: Mapping[str, tuple[Sequence[int], float]]) -> Metric:
    family = HistogramMetricFamily(f"vllama_{name}", what, labels=["model"])
    for model, (counts, sum_s) in values.items():
        buckets = list(zip(_BOUNDS, map(float, accumulate(counts)), strict=True))
        family.add_metric([model], buckets, sum_s)
    return family


def _of_us(state: State) -> Iterator[Metric]:
    conditions = GaugeMetricFamily("vllama_condition", "1: as it should be; 0: look at /health.", labels=["type"])
    for condition in state.conditions:
        conditions.add_metric([condition.type], float(condition.ok))
    yield conditions
    build = GaugeMetricFamily("vllama_build_info", "Always 1.", labels=["version"])
    build.add_metric([state.version], 1)
    yield build
    yield GaugeMetricFamily("vllama_pulls_in_flight", "Downloads that clients asked for.", value=state.pulls)
    dropped = CounterMetricFamily("vllama_access_log_dropped_lines", "Lines that nobody read fast enough.")
    dropped.add_metric([], state.dropped_lines)
    yield dropped
    yield from _of_our_life(state.vitals)
    yield from _PROCESS.collect()


def _of_our_life(vitals: Vitals) -> Iterator[Metric]:
    gauges = {
        "loop_lag_seconds": ("How late the event loop was at most in the latest minute.", vitals.lag_s),
        "ready": ("1: it may be sent requests, as /readyz says.", float(vitals.unready is None)),
        "last_pass_age_seconds": ("Since observe, plan, act went round last.", vitals.pass_age_s),
        "last_pass_seconds": ("How long that took.", vitals.pass_s),
    }
    for name, (what, value) in gauges.items():
        yield GaugeMetricFamily(f"vllama_{name}", what, value=value)
    what = "How often the event loop stood still for seconds."
    yield CounterMetricFamily("vllama_loop_blocked", what, value=vitals.blocked)
    deaths = CounterMetricFamily("vllama_task_deaths", "Background tasks that were begun again.", labels=["task"])
    for name, count in sorted(vitals.deaths.items()):
        deaths.add_metric([name], count)
    yield deaths
