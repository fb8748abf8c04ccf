"""The state of every machine, for people: one NodeStatus each. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vllama.domain.observed import Device, EngineObservation, Node, NodeState, Operation, Snapshot
from vllama.domain.status import Phase, phase_of
from vllama.planner.believed import believed


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDevice:
    """As the driver tells it; `used_bytes` None: it does not."""

    index: int
    name: str
    total_bytes: int
    used_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEngine:
    """`model` is the replica's name; `devices` are those of this node."""

    model: str
    engine_id: str
    phase: Phase
    devices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One line of `vllama nodes`. `said`: why it is not ready. `read_at`: when its memory was read, of the wall clock
    (None: never). `host_available_bytes`: what of the host's memory is free (None: not told), `host_budget_bytes`: what
    copies of sleepers may take of it.
    """

    name: str
    address: str
    state: NodeState
    said: str
    read_at: float | None
    devices: tuple[NodeDevice, ...]
    engines: tuple[NodeEngine, ...]
    host_budget_bytes: int
    host_available_bytes: int | None


def node_statuses(snapshot: Snapshot, *, read_at: float, wall_minus_clock: float) -> Sequence[NodeStatus]:
    """Sorted by name. `read_at`: when the latest reading began, of the snapshot's clock; negative: there was none."""
    engines = believed(snapshot)
    operations = {op.engine_id: op for op in snapshot.operations}
    return tuple(
        _status(node, engines, operations, read_at if node.seen_at is None else node.seen_at, wall_minus_clock)
        for node in sorted(snapshot.nodes, key=lambda node: node.name)
    )


def _status(
    node: Node, engines: Sequence[EngineObservation], operations: dict[str, Operation], read_at: float, offset: float
) -> NodeStatus:
    return NodeStatus(
        name=node.name, address=node.address, state=node.state, said=node.said,
        read_at=None if read_at < 0 else read_at + offset,
        devices=tuple(map(_device, sorted(node.devices, key=lambda device: device.index))),
        engines=tuple(_engines_on(node.name, engines, operations)),
        host_budget_bytes=node.host_budget_bytes, host_available_bytes=node.host_available_bytes,
    )  # fmt: skip


def _device(device: Device) -> NodeDevice:
    return NodeDevice(
        index=device.index, name=device.name, total_bytes=device.total_bytes, used_bytes=device.used_bytes
    )  # fmt: skip


def _engines_on(
    name: str, engines: Sequence[EngineObservation], operations: dict[str, Operation]
) -> Iterator[NodeEngine]:
    for engine in sorted(engines, key=lambda engine: (engine.model, engine.engine_id)):
        devices = tuple(index for node, index in engine.keys if node == name)
        if name in engine.nodes:
            phase = phase_of(engine, operations.get(engine.engine_id))
            yield NodeEngine(model=engine.model, engine_id=engine.engine_id, phase=phase, devices=devices)
