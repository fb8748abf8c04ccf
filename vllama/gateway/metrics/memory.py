"""The ledgers of memory and what models take of it, as families of samples. What is not known has no sample."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import Metric

from vllama.controller.measures import Measures
from vllama.domain.observed import NodeState
from vllama.gateway.metrics.families import gauge
from vllama.planner.books import Books, DevicePage, HostPage

_OF_DEVICES: tuple[tuple[str, str, Callable[[DevicePage], float | None]], ...] = (
    ("", "All of it: reserve + foreign + what engines count for + room.", lambda page: page.total_bytes),
    ("_used", "What everybody holds, as the driver tells it.", lambda page: page.used_bytes),
    ("_reserve", "What stays free.", lambda page: page.reserve_bytes),
    ("_foreign", "What programs hold that are not vllama's.", lambda page: page.foreign_bytes),
    ("_room", "What may still be given away; negative: overdrawn.", lambda page: page.room_bytes),
)
_OF_HOSTS: tuple[tuple[str, str, Callable[[HostPage], float | None]], ...] = (
    ("_budget", "What copies of sleepers' weights may take (level 1).", lambda page: page.budget_bytes),
    ("_room", "What one more copy may take; negative: short of it.", lambda page: page.room_bytes),
    ("_available", "What the machine has left, for whoever asks.", lambda page: page.available_bytes),
)


def memory_of(measures: Measures, model_of: Callable[[str], str]) -> Iterator[Metric]:
    """`model_of(name)`: the model whose replica has this name."""
    yield from _nodes(measures.books)
    yield from _devices(measures.books, model_of)
    yield from _hosts(measures.books, model_of)
    what = "What one engine takes: of a device when awake and asleep; in all for weights and the copy on the host."
    yield gauge("model_footprint_bytes", what, ["model", "state"], _footprints(measures.footprints))


def _nodes(books: Books) -> Iterator[Metric]:
    what = "1 for the state that a machine is in; only one that is ready is given anything to do."
    states = (((node.name, state.value), float(node.state is state)) for node in books.nodes for state in NodeState)
    yield gauge("node_state", what, ["node", "state"], states)


def _devices(books: Books, model_of: Callable[[str], str]) -> Iterator[Metric]:
    pages = [((node.name, str(page.index)), page) for node in books.nodes for page in node.devices]
    labels = ["node", "device"]
    names = (([*key, page.name], 1.0) for key, page in pages)
    yield gauge("device_info", "Always 1; names the device.", [*labels, "name"], names)
    for name, what, value_of in _OF_DEVICES:
        values = ((key, value) for key, page in pages if (value := value_of(page)) is not None)
        yield gauge(f"device_memory{name}_bytes", what, labels, values)
    counted, measured = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for key, page in pages:
        for entry in page.engines:
            counted[*key, model_of(entry.model), entry.phase.value] += entry.counted_bytes
            if entry.measured_bytes is not None:
                measured[*key, model_of(entry.model)] += entry.measured_bytes
    what = "What engines count for: awake all that they may grow to, asleep what they hold."
    yield gauge("device_memory_engine_bytes", what, [*labels, "model", "phase"], sorted(counted.items()))
    what = "What engines were last seen to hold."
    yield gauge("device_memory_engine_measured_bytes", what, [*labels, "model"], sorted(measured.items()))


def _hosts(books: Books, model_of: Callable[[str], str]) -> Iterator[Metric]:
    for name, what, value_of in _OF_HOSTS:
        values = (([node.name], value) for node in books.nodes if (value := value_of(node.host)) is not None)
        yield gauge(f"host_memory{name}_bytes", what, ["node"], values)
    copies = Counter[tuple[str, str]]()
    for node in books.nodes:
        for copy in node.host.copies:
            copies[node.name, model_of(copy.model)] += copy.copy_bytes
    what = "What is counted for copies of weights, from an engine's first sleep until it ends."
    yield gauge("host_memory_copy_bytes", what, ["node", "model"], sorted(copies.items()))


def _footprints(footprints: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[Sequence[str], float]]:
    return (((model, state), size) for model, sizes in footprints.items() for state, size in sizes.items())
