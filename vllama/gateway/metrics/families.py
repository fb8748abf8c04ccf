"""Families of samples, as prometheus_client writes them. `values`: the labels' values, and the number."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from vllama.controller.histogram import Histogram

Values = Iterable[tuple[Sequence[str], float]]


def gauge(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    family = GaugeMetricFamily(f"vllama_{name}", what, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def counter(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    """`name` without the `_total` that its samples end with."""
    family = CounterMetricFamily(f"vllama_{name}", what, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def histogram(
    name: str, what: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:  # fmt: skip
    family = HistogramMetricFamily(f"vllama_{name}", what, labels=labels)
    for of, each in values:
        bounds = [*map(floatToGoString, each.bounds), "+Inf"]
        family.add_metric(of, list(zip(bounds, map(float, accumulate(each.counts)), strict=True)), each.sum)
    return family
