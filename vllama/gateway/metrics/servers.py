"""The servers that others run, as Prometheus sees them."""

from collections.abc import Callable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from vllama.controller.servers.status import ServerStatus

_GAUGES: tuple[tuple[str, str, Callable[[ServerStatus], float | None]], ...] = (
    ("up", "1: it gets requests; 0: look at /health.", lambda server: server.wrong is None),
    ("requests_in_flight", "Requests of ours that it answers.", lambda server: server.in_flight),
    (
        "requests_running", "Requests that it works on, by its own metrics.",
        lambda server: server.load.running if server.load else None,
    ),
    (
        "requests_waiting", "Requests that wait there, by its own metrics.",
        lambda server: server.load.waiting if server.load else None,
    ),
    (
        "kv_cache_usage_ratio", "How full its KV cache is, by its own metrics: 0 to 1.",
        lambda server: server.load.kv_cache_usage if server.load else None,
    ),
    ("capacity", "Requests that it takes at a time: max_concurrent_requests.", lambda server: server.capacity),
)  # fmt: skip


def families_of(servers: Sequence[ServerStatus]) -> list[Metric]:
    """None at all where there are no servers; what a server does not tell has no sample.

    The label `server` is its URL: models.yaml takes none with a password in it.
    """
    return [_family(*gauge, servers) for gauge in _GAUGES] if servers else []


def _family(
    name: str, what: str, value_of: Callable[[ServerStatus], float | None], servers: Sequence[ServerStatus]
) -> Metric:
    family = GaugeMetricFamily(f"vllama_server_{name}", what, labels=["server"])
    for server in servers:
        value = value_of(server)
        if value is not None:
            family.add_metric([server.url], value)
    return family
