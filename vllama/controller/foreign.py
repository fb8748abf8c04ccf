"""What others held of each device of another machine, by the last reading that told. It may be old by now."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vllama.domain.observed import Device, Node
from vllama.runtime.base import EngineProcess, Reading


@dataclass(slots=True)
class Foreign:
    """By node: when it was read, and bytes by device. Only of machines that say when they were read."""

    _known: dict[str, tuple[float, dict[int, int]]] = field(default_factory=dict)

    def note(self, reading: Reading, engines: Iterable[EngineProcess]) -> None:
        """Once per reading of a node: later on nobody knows what its engines held then."""
        there = list(engines)
        for node in reading.nodes:
            if node.seen_at is not None and self._known.get(node.name, (None,))[0] != node.seen_at:
                self._known[node.name] = node.seen_at, dict(_told_apart(node, reading, there))

    def on(self, node: Node) -> Node:
        if node.seen_at is None or node.name not in self._known:
            return node
        known = self._known[node.name][1]
        devices = (replace(device, foreign_bytes=known.get(device.index)) for device in node.devices)
        return replace(node, devices=tuple(devices))


def _told_apart(node: Node, reading: Reading, engines: list[EngineProcess]) -> Iterable[tuple[int, int]]:
    """Where what each of our engines holds is told."""
    for device in node.devices:
        here = [engine.engine_id for engine in engines if (node.name, device.index) in engine.keys]
        ours = [reading.measured_bytes.get(engine_id) for engine_id in here]
        if (foreign := _less(device, ours)) is not None:
            yield device.index, foreign


def _less(device: Device, ours: list[int | None]) -> int | None:
    if device.used_bytes is None or any(size is None for size in ours):
        return None
    return max(0, device.used_bytes - sum(size for size in ours if size is not None))
