"""Where models are and who wants them, as families of samples."""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from vllama.domain.status import ModelStatus, Phase, one_per_model
from vllama.gateway.metrics.families import gauge


def models_of(replicas: Sequence[ModelStatus]) -> Iterator[Metric]:
    """The label `model` is the model's id, whatever the number of its replicas."""
    models = one_per_model(replicas)
    yield gauge(
        "model_phase", "1 for the phase that a model is in; of several replicas, the best one's.", ["model", "phase"],
        (([each.model, phase.value], float(each.phase is phase)) for each in models for phase in Phase),
    )  # fmt: skip
    yield _replicas(replicas)
    yield gauge(
        "requests_in_flight", "Requests that are being answered.", ["model"], (([m.model], m.in_flight) for m in models)
    )
    what = "Requests that wait until their model is ready."
    yield gauge("requests_waiting", what, ["model"], (([each.model], each.waiting) for each in models))


def _replicas(replicas: Sequence[ModelStatus]) -> Metric:
    """Models with one engine have no such samples: their phase says it all."""
    several = {each.replica_of for each in replicas if each.replica_of is not None}
    counts = Counter((each.replica_of or each.model, each.phase) for each in replicas)
    what = "How many replicas are in this phase, of models that have several."
    values = (((model, phase.value), counts[model, phase]) for model in sorted(several) for phase in Phase)
    return gauge("model_replicas", what, ["model", "phase"], values)
