"""Engines that no single node has devices enough for: over how many nodes, and with how many devices on each. Pure.

vLLM numbers the ranks node by node, those of one tensor-parallel group next to each other.
"""

from collections.abc import Collection

from vllama.domain.observed import Node
from vllama.domain.spec import ModelSpec


def span_of(spec: ModelSpec, nodes: Collection[Node]) -> tuple[int, int]:
    """Nodes, and devices of each. One node wherever one has as many, whether it answers now or not.

    Else as few as it can be split over evenly: where that is possible with each tensor-parallel group inside a node,
    and only the pipeline across; else with tensor parallelism across nodes. (1, all): there is no such split.
    """
    count = spec.device_count
    if count == 1 or spec.node is not None or len(nodes) < 2:
        return 1, count
    most = max(_usable(spec, node) for node in nodes)
    if most >= count:
        return 1, count
    tensor = spec.launch.setting("tensor_parallel_size")
    group = tensor if isinstance(tensor, int) and tensor > 0 else 1
    even = [number for number in range(2, len(nodes) + 1) if count % number == 0 and count // number <= most]
    inside = [number for number in even if (count // number) % group == 0]
    number = next(iter(inside or even), 1)
    return number, count // number


def kind_of(spec: ModelSpec, node: Node) -> tuple[int, ...]:
    """Nodes of one kind have the same devices to give: no rank is to be slower or smaller than the others."""
    return tuple(
        sorted(device.total_bytes for device in node.devices if spec.devices is None or device.index in spec.devices)
    )


def _usable(spec: ModelSpec, node: Node) -> int:
    if spec.devices is None:
        return len(node.devices)
    return sum(device.index in spec.devices for device in node.devices)
