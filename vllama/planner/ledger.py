"""Whose bytes are where. All sums are per device, and look past the operations under way to their end.

A device with an operation under way takes no other action, so counting what it will have when that operation is
done decides only what is worth waiting for, never what is done now.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vllama.domain.observed import (
    Asleep,
    Device,
    DeviceKey,
    EngineObservation,
    Exited,
    Footprint,
    Loading,
    Operation,
    Verb,
)
from vllama.domain.spec import (
    DEFAULT_RESIDUE_BYTES,
    DEFAULT_RESIDUE_PARALLEL_BYTES,
    HOST_COPY_FACTOR,
    ModelSpec,
    SleepLevel,
)
from vllama.domain.units import format_bytes
from vllama.planner.believed import is_stale
from vllama.planner.view import View

HOST_FLOOR_SHARE = 0.05  # of the host budget: what stays available to everybody else on the machine
LARGEST_AUTO_SHARE = 0.85  # of a device, for a model whose need is not declared


def need_bytes(spec: ModelSpec, footprint: Footprint | None, total_bytes: int) -> int:
    """What the model takes of a device of `total_bytes` when awake: declared, else its share, else its footprint."""
    if spec.memory_bytes is not None:
        return spec.memory_bytes
    share = spec.launch.setting("gpu_memory_utilization")
    if isinstance(share, (int, float)):
        return int(share * total_bytes)
    largest = int(LARGEST_AUTO_SHARE * total_bytes)
    if footprint is None:
        return largest
    # the KV cache may get smaller than wished for, the weights may not: what cannot fit must show
    least = 0 if footprint.cache_bytes is None else footprint.awake_bytes - footprint.cache_bytes
    return min(footprint.awake_bytes, max(largest, least))


def residue_bytes(footprint: Footprint | None, device_count: int) -> int:
    if footprint is not None:
        return footprint.asleep_bytes
    return DEFAULT_RESIDUE_BYTES if device_count == 1 else DEFAULT_RESIDUE_PARALLEL_BYTES


def leaked_bytes(engine: EngineObservation) -> int:
    """What a sleeper holds beyond what it held after its first sleep: not what it wakes into, but on top of that."""
    if not isinstance(engine.state, Asleep) or engine.first_residue_bytes is None or engine.measured_bytes is None:
        return 0
    return max(0, engine.measured_bytes - engine.first_residue_bytes)


def cache_bytes(footprint: Footprint | None, memory_bytes: int) -> int | None:
    """The KV cache that fits into `memory_bytes` beside what is fixed; None: vLLM sizes it from what it may use."""
    if footprint is None or footprint.fixed_bytes is None or memory_bytes <= footprint.fixed_bytes:
        return None
    return memory_bytes - footprint.fixed_bytes


def host_copy_bytes(footprint: Footprint | None) -> int:
    """Host memory that a level-1 sleep pins, until the process ends."""
    return 0 if footprint is None else int(HOST_COPY_FACTOR * footprint.weights_bytes)


def part_on(engine: EngineObservation, node: str, size_bytes: int) -> int:
    """Of what the whole engine has in host memory: each of its devices has an equal part there."""
    if not engine.further:
        return size_bytes
    here = sum(len(place.devices) for place in engine.places if place.node == node)
    return size_bytes * here // len(engine.keys)


@dataclass(slots=True)
class Ledger:
    """`room` is what is left of each device above its reserve, in bytes (negative: overdrawn; None: unknown, and of a
    node that does not answer nobody can say).

    Rooms shrink as the plan gives them away and grow by what victims will free; `free` stays as it was at first:
    what is there before anybody leaves. `capacity` is what is left when every engine of ours is gone.
    `pinned` is what pinned models hold awake, by device and model. `host_room` is what is left of each node's host
    budget, and never more than the host has available (negative: short).
    """

    view: View
    room: dict[DeviceKey, int | None] = field(init=False)
    free: dict[DeviceKey, int | None] = field(init=False)
    capacity: dict[DeviceKey, int] = field(init=False)
    host_room: dict[str, int] = field(init=False)
    devices: dict[DeviceKey, Device] = field(init=False)
    pinned: dict[DeviceKey, dict[str, int]] = field(init=False, default_factory=dict)
    unified: frozenset[DeviceKey] = field(init=False)  # devices whose memory is the host's own

    def __post_init__(self) -> None:
        nodes = self.view.nodes.values()
        self.devices = {(node.name, device.index): device for node in nodes for device in node.devices}
        self.unified = frozenset(key for key, device in self.devices.items() if device.unified)
        self.host_room = {node.name: node.host_budget_bytes for node in nodes}
        self._weigh()
        for node in nodes:
            if node.host_available_bytes is not None:
                available = node.host_available_bytes - int(HOST_FLOOR_SHARE * node.host_budget_bytes)
                self.host_room[node.name] = min(self.host_room[node.name], available)
        self._pin()

    def _weigh(self) -> None:
        charged, ours = dict.fromkeys(self.devices, 0), dict.fromkeys(self.devices, 0)
        for engine, as_read in zip(self.view.seen, self.view.snapshot.engines, strict=True):
            charge, holds = self.charge_after_operation(engine), self._at_most_now(as_read)
            for key in engine.keys:
                charged[key], ours[key] = charged.get(key, 0) + charge, ours.get(key, 0) + holds
            self._weigh_copy(engine)
        known = {engine.engine_id for engine in self.view.snapshot.engines}
        for op in self.view.snapshot.operations:
            if op.verb is Verb.START and op.engine_id not in known:
                for key in op.keys:
                    charged[key] = charged.get(key, 0) + op.memory_bytes
                    ours[key] = ours.get(key, 0) + op.memory_bytes
        stale = {name for name, node in self.view.nodes.items() if is_stale(node, self.view.snapshot.taken_at)}
        self.room, self.capacity = {}, {}
        for key, device in self.devices.items():
            foreign = max(0, (device.used_bytes or 0) - ours[key])
            if device.foreign_bytes is not None and key[0] in stale:
                foreign = device.foreign_bytes
            self.capacity[key] = device.total_bytes - device.reserve_bytes - foreign
            is_known = device.used_bytes is not None and key[0] in self.view.ready
            self.room[key] = self.capacity[key] - charged[key] if is_known else None
        self.free = dict(self.room)

    def _weigh_copy(self, engine: EngineObservation) -> None:
        if copy := self.host_copy_after_operation(engine):
            for name in engine.nodes:
                if (node := self.view.nodes.get(name)) is not None and node.sleep_frees_memory:
                    self.host_room[name] -= part_on(engine, name, copy)

    def _pin(self) -> None:
        for model, engines in self.view.engines.items():
            if self.view.pinned(model):
                held = max(engines[0].memory_bytes, self.charge(engines[0]))
                for key in engines[0].keys:
                    self.pinned.setdefault(key, {})[model] = held

    def footprint(self, model: str) -> Footprint | None:
        return self.view.snapshot.footprints.get(model)

    def asleep(self, engine: EngineObservation) -> int:
        """What it keeps of each device when asleep: all of it where sleeping frees nothing."""
        node = self.view.nodes.get(engine.node)
        if node is not None and not node.sleep_frees_memory:
            return engine.memory_bytes
        return residue_bytes(self.footprint(engine.model), len(engine.keys))

    def actual(self, engine: EngineObservation) -> int:
        """What it holds now: measured where that is visible, else what it should hold."""
        if engine.measured_bytes is not None:
            return engine.measured_bytes
        return self.asleep(engine) if isinstance(engine.state, Asleep) else engine.memory_bytes

    def _at_most_now(self, engine: EngineObservation) -> int:
        """What it may hold already: on the way up, any part of all of it. The rest of what is used is foreign."""
        op = self._operation(engine)
        if isinstance(engine.state, Loading) or (op is not None and op.verb in (Verb.START, Verb.WAKE)):
            return max(engine.memory_bytes, engine.measured_bytes or 0)
        return self.actual(engine)

    def _operation(self, engine: EngineObservation) -> Operation | None:
        op = self.view.operations.get(engine.model)
        return op if op is not None and op.engine_id == engine.engine_id else None

    def host_copy_after_operation(self, engine: EngineObservation) -> int:
        op = self._operation(engine)
        copies = op is not None and op.verb is Verb.SLEEP and op.level is SleepLevel.WEIGHTS_OFFLOADED
        return engine.host_copy_bytes + (self.copy_bytes(engine, SleepLevel.WEIGHTS_OFFLOADED) if copies else 0)

    def charge(self, engine: EngineObservation) -> int:
        """What it must be counted for now: all it may grow to while awake, what it holds when asleep or gone."""
        if isinstance(engine.state, Asleep | Exited):
            return self.actual(engine)
        return max(engine.memory_bytes, engine.measured_bytes or 0)

    def charge_after_operation(self, engine: EngineObservation) -> int:
        op = self._operation(engine)
        if op is None:
            return self.charge(engine)
        match op.verb:
            case Verb.STOP:
                return 0
            case Verb.SLEEP:
                return self.asleep(engine)
            case Verb.START | Verb.WAKE:
                return max(engine.memory_bytes + leaked_bytes(engine), engine.measured_bytes or 0)

    def wake_bytes(self, engine: EngineObservation) -> int:
        """What waking takes on top of what it holds asleep."""
        return max(0, engine.memory_bytes + leaked_bytes(engine) - self.charge(engine))

    def take(self, keys: Iterable[DeviceKey], size_bytes: int) -> None:
        for key in keys:
            room = self.room.get(key)
            if room is not None:
                self.room[key] = room - size_bytes

    def load(self, node: str) -> float:
        """Which part of the node's device memory is given away, from 0 to 1."""
        devices = [(node, device.index) for device in self.view.nodes[node].devices]
        total = sum(self.devices[key].total_bytes for key in devices)
        return 1.0 - sum(max(0, self.room[key] or 0) for key in devices) / max(1, total)

    def sleep_levels(
        self, spec: ModelSpec, engine: EngineObservation, asked: SleepLevel | None
    ) -> tuple[SleepLevel, ...]:
        """The levels it may sleep at, the best first, whatever the host has room for; (): it can only stop.

        As asked; else (auto) level 1, and level 2 for who may come back from it: the wake verifies that.
        """
        if self._why_never_sleep(spec, engine, asked) is not None:
            return ()
        levels = (SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED) if asked is None else (asked,)
        return tuple(level for level in levels if self._may_sleep_at(engine, level, chosen=asked is not None))

    def sleep_level(self, spec: ModelSpec, engine: EngineObservation, asked: SleepLevel | None) -> SleepLevel:
        """The level to sleep at now: the best that the host has room for, else stop."""
        room = self.host_room.get(engine.node, 0)
        levels = self.sleep_levels(spec, engine, asked)
        return next((level for level in levels if self.copy_bytes(engine, level) <= room), SleepLevel.STOP)

    def why_not_sleep(self, spec: ModelSpec, engine: EngineObservation, asked: SleepLevel | None) -> str | None:
        """Why this engine must stop instead, whatever room is needed; None: it may sleep."""
        if (why := self._why_never_sleep(spec, engine, asked)) is not None:
            return why
        if self.sleep_level(spec, engine, asked) is not SleepLevel.STOP:
            return None
        level = asked or SleepLevel.WEIGHTS_OFFLOADED
        if level is SleepLevel.WEIGHTS_OFFLOADED and self._on_host_memory(engine):
            return "its memory is the host's own: level 1 would free nothing"
        if not self.sleep_levels(spec, engine, asked):
            return f"level {level} did not work when it was tried"
        copy, room = self.copy_bytes(engine, level), self.host_room[engine.node]
        return f"its copy takes {format_bytes(copy)} of host memory, where {format_bytes(max(0, room))} is left"

    def _why_never_sleep(self, spec: ModelSpec, engine: EngineObservation, asked: SleepLevel | None) -> str | None:
        node = self.view.nodes.get(engine.node)
        if asked is SleepLevel.STOP:
            return "its settings say stop"
        if not spec.sleep_mode:
            return "it runs without sleep mode"
        if engine.further:
            return "it spans machines, which nobody has tried to put to sleep"
        if node is None or not node.sleep_frees_memory:
            return "sleeping frees nothing here"
        return None

    def _may_sleep_at(self, engine: EngineObservation, level: SleepLevel, *, chosen: bool) -> bool:
        """`chosen`: by a person, who may know that level 2 is all right where we do not."""
        if level is SleepLevel.WEIGHTS_OFFLOADED and self._on_host_memory(engine):
            return False
        footprint = self.footprint(engine.model)
        if footprint is None:
            return chosen or level is SleepLevel.WEIGHTS_OFFLOADED
        may = chosen or level is SleepLevel.WEIGHTS_OFFLOADED or footprint.discardable
        return may and level not in footprint.refused_levels

    def _on_host_memory(self, engine: EngineObservation) -> bool:
        return bool(self.unified) and any(key in self.unified for key in engine.keys)

    def copy_bytes(self, engine: EngineObservation, level: SleepLevel) -> int:
        """Host memory that sleeping at this level takes on top of what the engine pins already."""
        if level is not SleepLevel.WEIGHTS_OFFLOADED or engine.host_copy_bytes:
            return 0
        return host_copy_bytes(self.footprint(engine.model))

    def pin_host_copy(self, engine: EngineObservation, level: SleepLevel) -> None:
        self.host_room[engine.node] -= self.copy_bytes(engine, level)
