"""What the loop has done with models, and how long it took for it, as families of samples."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from vllama.controller.histogram import Histogram
from vllama.controller.measures import Measures
from vllama.controller.tally import Sums
from vllama.gateway.metrics.families import counter, gauge, histogram


def doings_of(measures: Measures) -> Iterator[Metric]:
    sums = measures.sums
    yield counter(
        "model_residency_seconds", "How long engines of the model were in this phase; replicas add up.",
        ["model", "phase"], sorted(sums.stays_s.items()),
    )  # fmt: skip
    yield from _operations(sums)
    yield gauge(
        "engine_failures_in_a_row", "Failures with no ten minutes of a living engine between; of the worst replica.",
        ["model"], (([model], count) for model, count in measures.failures.items()),
    )  # fmt: skip
    yield gauge(
        "oldest_waiting_seconds", "How long the oldest of those that wait now has waited; 0: nobody waits.",
        ["model"], (([model], age_s) for model, age_s in measures.oldest_s.items()),
    )  # fmt: skip
    yield from _loop(sums, measures.lags)


def _operations(sums: Sums) -> Iterator[Metric]:
    of_operation = ["model", "operation", "reason"]
    yield counter(
        "operations", "Starts, sleeps, wakes and stops that were begun, by the reason of the decision.",
        of_operation, sorted(sums.operations.items()),
    )  # fmt: skip
    yield counter(
        "evictions", "Of these the sleeps and stops of those whose memory others needed (HostMemoryShort: the host's).",
        of_operation, sorted(sums.evictions.items()),
    )  # fmt: skip
    yield counter(
        "swaps", "Starts and wakes for which others were evicted, by who wanted the model: request, operator, pin.",
        ["model", "cause"], sorted(sums.swaps.items()),
    )  # fmt: skip
    yield counter(
        "engine_failures", "Engines that failed; loaded: whether it had been ready before.",
        ["model", "reason", "loaded"],
        (([model, reason, str(ready).lower()], n) for (model, reason, ready), n in sorted(sums.failures.items())),
    )  # fmt: skip
    yield histogram(
        "operation_duration_seconds", "How long those took that went well; a start, until its engine was ready.",
        ["model", "operation"], sorted(sums.durations.items()),
    )  # fmt: skip


def _loop(sums: Sums, lags: Histogram) -> Iterator[Metric]:
    yield histogram("plan_duration_seconds", "How long each plan took to make.", [], [([], sums.plans)])
    what = "How long each pass of observe, plan, act held the event loop."
    yield histogram("pass_duration_seconds", what, [], [([], sums.passes)])
    what = "How late the event loop was, looked at twice a second."
    yield histogram("loop_delay_seconds", what, [], [([], lags)])
    what = "Plans that the second opinion objected to: nothing was done."
    yield counter("plans_rejected", what, [], [([], sums.rejected_plans)])
    yield counter("passes_failed", "Passes that ended with an error.", [], [([], sums.failed_passes)])
