"""Whether any devices could ever take a model, whoever leaves, and if not, the numbers of why."""

import difflib
from collections.abc import Collection, Sequence

from vllama.domain.observed import DeviceKey, Node
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec
from vllama.domain.units import format_bytes
from vllama.planner.believed import why_away
from vllama.planner.ledger import Ledger, need_bytes
from vllama.planner.placement import allowed, need_beside
from vllama.planner.spans import kind_of, span_of
from vllama.planner.view import View
from vllama.planner.where import is_cluster, name_device

MOST_NAMED = 8


def cannot_fit(ledger: Ledger, spec: ModelSpec) -> tuple[Reason, str] | None:
    """Why no set of devices can ever take the model, whoever leaves; None if one can, or if no machine was seen yet.

    Those of nodes that do not answer count: these may come back.
    """
    view, nodes = ledger.view, list(ledger.view.nodes.values())
    if not nodes or _can_fit(ledger, spec, nodes):
        return None
    if spec.node is not None and spec.node not in view.nodes:
        return Reason.NO_SUCH_NODE, _no_such_node(view, spec.node)
    count, size = span_of(spec, nodes)
    usable = [(node, allowed(spec, node)) for node in nodes]
    enough = [(node.name, indices) for node, indices in usable if len(indices) >= size]
    if len(enough) < count:
        return Reason.NO_SUCH_DEVICE, _no_such_device(view, spec)
    keys = [(node, index) for node, indices in enough for index in indices]
    best = max(keys, key=lambda key: _most(ledger, spec, key) - need_of(ledger, spec, key))
    on_each = f" {size} such devices are needed" + (f" on each of {count} equal machines." if count > 1 else ".")
    return Reason.CANNOT_FIT, f"{_sum_of(ledger, spec, best)}{on_each if spec.device_count > 1 else ''}"


def awaits(ledger: Ledger, spec: ModelSpec) -> str | None:
    """Which nodes that do not answer it has to wait for, as no other could ever take it; None: it need not."""
    view = ledger.view
    away = [node for node in view.nodes.values() if node.name not in view.ready and allowed(spec, node)]
    if not away or _can_fit(ledger, spec, list(view.ready.values())):
        return None
    said = "; ".join(map(why_away, away[:MOST_NAMED])) + (" and others" if len(away) > MOST_NAMED else "")
    return f"No other machine can take it: {said}. It starts when that is back."


def _can_fit(ledger: Ledger, spec: ModelSpec, nodes: Sequence[Node]) -> bool:
    count, size = span_of(spec, ledger.view.nodes.values())
    fitting = (node for node in nodes if _can_fit_on(ledger, spec, node.name, allowed(spec, node), size))
    if count == 1:
        return next(fitting, None) is not None
    kinds = [kind_of(spec, node) for node in fitting]
    return any(kinds.count(kind) >= count for kind in set(kinds))


def _can_fit_on(ledger: Ledger, spec: ModelSpec, node: str, indices: Collection[int], size: int) -> bool:
    """Some set of the size has room on each for what the smallest of them makes the need."""
    totals = {index: ledger.devices[node, index].total_bytes for index in indices}
    for least in sorted(set(totals.values())):
        need = need_bytes(spec, ledger.footprint(spec.model), least)
        room = [
            _most(ledger, spec, (node, index)) >= need_beside(need, total, least)
            for index, total in totals.items()
            if total >= least
        ]
        if sum(room) >= size:
            return True
    return False


def need_of(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> int:
    return need_bytes(spec, ledger.footprint(spec.model), ledger.devices[key].total_bytes)


def _most(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> int:
    """Bytes of the device with only this model and the pinned ones on it."""
    device, pins = ledger.devices[key], 0
    if key in ledger.pinned:
        pins = sum(held for model, held in ledger.pinned[key].items() if model != spec.model)
    return device.total_bytes - device.reserve_bytes - pins


def _sum_of(ledger: Ledger, spec: ModelSpec, key: DeviceKey) -> str:
    device = ledger.devices[key]
    pins = {model: held for model, held in ledger.pinned.get(key, {}).items() if model != spec.model}
    held = "".join(f" - {format_bytes(size)} of pinned {name}" for name, size in sorted(pins.items()))
    most, need = format_bytes(_most(ledger, spec, key)), format_bytes(need_of(ledger, spec, key))
    reserve = f" - {format_bytes(device.reserve_bytes)} reserve" if device.reserve_bytes else ""
    sums = f"{format_bytes(device.total_bytes)}{reserve}{held}"
    equals = f" = {most}" if reserve or held else ""
    return f"Needs {need}; {name_device(ledger.view, key)} has {sums}{equals}."


def _no_such_device(view: View, spec: ModelSpec) -> str:
    nodes = [node for node in view.nodes.values() if spec.node in {None, node.name}]
    there = "; ".join(
        f"{node.name} has " + (", ".join(sorted(f"gpu{device.index}" for device in node.devices)) or "no device")
        for node in nodes[:MOST_NAMED]
    )
    more = f"; and {len(nodes) - MOST_NAMED} more machines" if len(nodes) > MOST_NAMED else ""
    named = "any devices" if spec.devices is None else "devices " + ", ".join(map(str, spec.devices))
    split = ", and no number of equal machines has as many between them" if is_cluster(view) and not spec.node else ""
    return f"Needs {spec.device_count} of {named}; {there or 'no machine was seen yet'}{more}{split}."


def _no_such_node(view: View, name: str) -> str:
    near = difflib.get_close_matches(name, view.nodes, n=3, cutoff=0.4) or list(view.nodes)[:MOST_NAMED]
    there = f"{len(view.nodes)} machines are there" if is_cluster(view) else "one machine is there"
    return f"models.yaml wants it on node {name}; {there}, nearest by name: {', '.join(near)}."
