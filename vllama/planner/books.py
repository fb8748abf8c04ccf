"""The ledgers as pages to read: every byte of each device and of the host's budget, and whose it is. Pure.

The numbers are those that decisions are made with, so a refusal can be checked against them by eye.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Device,
    DeviceKey,
    EngineObservation,
    ForeignProcess,
    Node,
    NodeState,
    Operation,
    Snapshot,
    Verb,
)
from vllama.domain.status import Phase, phase_of
from vllama.planner.ledger import Ledger, part_on
from vllama.planner.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One engine on one device. `counted_bytes` is what it is charged: awake all that it may grow to, asleep what it
    holds; where an operation is under way, what that leads to. `measured_bytes` is what it was last seen to hold
    (None: not visible), `awake_bytes` what it takes when awake.
    """

    model: str
    engine_id: str
    phase: Phase
    sleep_level: int | None
    counted_bytes: int
    measured_bytes: int | None
    awake_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePage:
    """`total == reserve + foreign + sum(counted) + room`, to the byte; a negative `room_bytes` is overdrawn.

    `used_bytes`, `foreign_bytes` and `room_bytes` are None while the driver does not tell what is used, `room_bytes`
    also of a node that is not ready. `foreign` are the processes behind `foreign_bytes`, as far as they are told; their
    sum need not be the same.
    """

    index: int
    name: str
    total_bytes: int
    used_bytes: int | None
    reserve_bytes: int
    foreign_bytes: int | None
    foreign: tuple[ForeignProcess, ...]
    engines: tuple[Entry, ...]
    room_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Pinned host memory of an engine that slept at level 1, once: it comes back only when the engine ends.

    `copy_bytes` is what it counts for, `measured_bytes` all that its processes hold of the host (None: not told).
    """

    model: str
    engine_id: str
    phase: Phase
    copy_bytes: int
    measured_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPage:
    """`budget == sum(copies) + left`. `room_bytes` is what one more copy may take: less than what is left where the
    machine itself has less to give (`available_bytes`; None: not known).
    """

    budget_bytes: int
    copies: tuple[Copy, ...]
    left_bytes: int
    room_bytes: int
    available_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePages:
    """`said`: why it is not ready. Then none of its devices has room."""

    name: str
    sleep_frees_memory: bool
    devices: tuple[DevicePage, ...]
    host: HostPage
    state: NodeState = NodeState.READY
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """`astray`: engines on devices that were not seen, with what they count for on each of them."""

    taken_at: float
    nodes: tuple[NodePages, ...]
    astray: tuple[Entry, ...] = ()


def books_of(desired: DesiredState, snapshot: Snapshot) -> Books:
    view = View(desired=desired, snapshot=snapshot, now=snapshot.taken_at)
    ledger = Ledger(view)
    entries: dict[DeviceKey, list[Entry]] = defaultdict(list)
    copies: dict[str, list[Copy]] = defaultdict(list)
    astray: list[Entry] = []
    places = {engine.engine_id: engine.keys for engine in snapshot.engines}  # those that are away, too
    for engine in sorted(view.seen, key=lambda engine: (engine.model, engine.engine_id)):
        entry, size = _entry(ledger, engine), ledger.host_copy_after_operation(engine)
        for key in places[engine.engine_id]:
            entries[key].append(entry)
        if any(key not in ledger.devices for key in places[engine.engine_id]):
            astray.append(entry)
        for node in engine.nodes if size else ():
            copies[node].append(
                Copy(
                    model=engine.model, engine_id=engine.engine_id, phase=entry.phase,
                    copy_bytes=part_on(engine, node, size), measured_bytes=engine.host_measured_bytes,
                )
            )  # fmt: skip
    for op in _starts_not_seen(view):
        for key in op.keys:
            entries[key].append(_begun(op))
    nodes = tuple(_pages(ledger, each, entries, copies[each.name]) for each in view.nodes.values())
    return Books(taken_at=snapshot.taken_at, nodes=nodes, astray=tuple(astray))


def _pages(
    ledger: Ledger, node: Node, entries: Mapping[DeviceKey, Sequence[Entry]], copies: Sequence[Copy]
) -> NodePages:
    kept = tuple(copies) if node.sleep_frees_memory else ()  # elsewhere they are on the device itself
    devices = sorted(node.devices, key=lambda device: device.index)
    return NodePages(
        name=node.name, state=node.state, said=node.said,
        sleep_frees_memory=node.sleep_frees_memory,
        devices=tuple(_page(ledger, node, device, entries.get((node.name, device.index), ())) for device in devices),
        host=HostPage(
            budget_bytes=node.host_budget_bytes, copies=kept,
            left_bytes=node.host_budget_bytes - sum(copy.copy_bytes for copy in kept),
            room_bytes=ledger.host_room[node.name], available_bytes=node.host_available_bytes,
        ),
    )  # fmt: skip


def _page(ledger: Ledger, node: Node, device: Device, entries: Sequence[Entry]) -> DevicePage:
    key = node.name, device.index
    foreign = device.total_bytes - device.reserve_bytes - ledger.capacity[key]
    return DevicePage(
        index=device.index, name=device.name, total_bytes=device.total_bytes, used_bytes=device.used_bytes,
        reserve_bytes=device.reserve_bytes, foreign_bytes=None if device.used_bytes is None else foreign,
        foreign=device.foreign, engines=tuple(entries), room_bytes=ledger.room[key],
    )  # fmt: skip


def _entry(ledger: Ledger, engine: EngineObservation) -> Entry:
    return Entry(
        model=engine.model, engine_id=engine.engine_id, phase=_phase(ledger.view, engine),
        sleep_level=int(engine.state.level) if isinstance(engine.state, Asleep) else None,
        counted_bytes=ledger.charge_after_operation(engine), measured_bytes=engine.measured_bytes,
        awake_bytes=engine.memory_bytes,
    )  # fmt: skip


def _starts_not_seen(view: View) -> Iterator[Operation]:
    known = {engine.engine_id for engine in view.snapshot.engines}
    return (op for op in view.snapshot.operations if op.verb is Verb.START and op.engine_id not in known)


def _begun(start: Operation) -> Entry:
    """A start under way whose engine was not seen yet."""
    return Entry(
        model=start.model, engine_id=start.engine_id, phase=Phase.STARTING, sleep_level=None,
        counted_bytes=start.memory_bytes, measured_bytes=None, awake_bytes=start.memory_bytes,
    )  # fmt: skip


def _phase(view: View, engine: EngineObservation) -> Phase:
    op = view.operations.get(engine.model)
    mine = op if op is not None and op.engine_id == engine.engine_id else None
    return phase_of(engine, mine, draining=view.demand(engine.model).admission_closed_at is not None)
