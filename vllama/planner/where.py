"""Devices and nodes in words. Nodes are named only where there are several."""

from vllama.domain.observed import DeviceKey, Placed
from vllama.planner.believed import why_away
from vllama.planner.view import View


def name_devices(view: View, placed: Placed) -> str:
    names = (", ".join(f"gpu{device}" for device in place.devices) for place in placed.places)
    if not is_cluster(view):
        return next(names)
    return " and ".join(f"{name} of {node}" for name, node in zip(names, placed.nodes, strict=True))


def name_device(view: View, key: DeviceKey) -> str:
    return f"gpu{key[1]} of {key[0]}" if is_cluster(view) else f"gpu{key[1]}"


def is_cluster(view: View) -> bool:
    return len(view.nodes) > 1


def of_lost(view: View, model: str) -> str:
    """What there is of the model on nodes that do not answer, as a sentence; "": nothing."""
    nodes = view.lost.get(model, ())
    if not nodes:
        return ""
    return f"Its engine on {' and '.join(node.name for node in nodes)} is lost: {'; '.join(map(why_away, nodes))}."
