"""The devices and engines of a replay: what each action leads to, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.observed import (
    Asleep,
    Awake,
    EngineObservation,
    Footprint,
    Loading,
    Node,
    Operation,
    Snapshot,
    Verb,
)
from vllama.domain.spec import ModelSpec, SleepLevel
from vllama.planner.ledger import host_copy_bytes
from vllama.replay.costs import Costs, ModelCosts
from vllama.replay.result import Tally


class Machine:
    """Nothing fails here, and nobody else holds memory beyond what the nodes show at first.

    What a change took is learned when it is over, as a server learns it: the planner knows it from then on.
    """

    def __init__(
        self, nodes: Sequence[Node], specs: Mapping[str, ModelSpec], costs: Costs, tallies: Mapping[str, Tally]
    ) -> None:
        self._nodes, self._specs, self._costs, self._tallies = tuple(nodes), specs, costs, tallies
        self.engines: dict[str, EngineObservation] = {}  # by replica
        self.operations: dict[str, Operation] = {}  # by replica
        self._footprints: dict[str, Footprint] = {
            name: costs[spec.served_name].footprint for name, spec in specs.items()
        }
        self._changes: dict[str, int] = {}  # by replica, its latest: one that is broken off ends no more
        self._begun = 0
        self._seen: tuple[Node, ...] | None = None

    def snapshot(self, now: float) -> Snapshot:
        if self._seen is None:
            self._seen = tuple(self._look(node) for node in self._nodes)
        return Snapshot(
            taken_at=now, nodes=self._seen, engines=tuple(self.engines.values()),
            operations=tuple(self.operations.values()), footprints=self._footprints,
        )  # fmt: skip

    def begin(self, action: Action, now: float) -> tuple[int, float]:
        """The number of this change, and how many seconds it takes. It may break off a load."""
        self._begun += 1
        self._changes[action.model] = self._begun
        return self._begun, self._carry_out(action, now)

    def _carry_out(self, action: Action, now: float) -> float:
        costs, tally = self._of(action.model), self._tallies[self._specs[action.model].served_name]
        weights = costs.footprint.weights_bytes
        self._seen = None
        match action:
            case Start():
                tally.starts, tally.moved_bytes = tally.starts + 1, tally.moved_bytes + weights
                self.engines[action.model] = EngineObservation(
                    engine_id=f"{action.model}@{self._begun}", model=action.model, spec_hash=action.spec_hash,
                    node=action.node, devices=action.devices, memory_bytes=action.memory_bytes,
                    # it is never late
                    state=Loading(progress_at=now + costs.load_s), started_at=now, measured_bytes=action.memory_bytes,
                )  # fmt: skip
                return costs.load_s
            case Sleep():
                tally.sleeps += 1
                tally.moved_bytes += weights if action.level is SleepLevel.WEIGHTS_OFFLOADED else 0
                self._operate(Verb.SLEEP, action, now, level=action.level)
                return costs.sleep_s[action.level]
            case Wake():
                tally.wakes, tally.moved_bytes = tally.wakes + 1, tally.moved_bytes + weights
                engine = self.engines[action.model]
                self.engines[action.model] = replace(engine, measured_bytes=engine.memory_bytes)
                self._operate(Verb.WAKE, action, now)
                return costs.wake_s[action.level]
            case Stop():
                tally.stops += 1
                self._operate(Verb.STOP, action, now)
                return costs.stop_s
            case _:
                assert_never(action)

    def end(self, model: str, change: int, now: float) -> bool:
        """The change is over. False: it was broken off before."""
        if self._changes[model] != change:
            return False
        engine, operation = self.engines[model], self.operations.pop(model, None)
        self._seen = None
        match None if operation is None else operation.verb:
            case Verb.STOP:
                del self.engines[model]
            case Verb.SLEEP:
                self._fall_asleep(engine, operation, now)
            case Verb.WAKE:
                self._learn(model, wake_s=0.0 if operation is None else now - operation.started_at)
                self.engines[model] = replace(engine, state=Awake(ready_at=now))
            case _:
                self._learn(model, load_s=now - engine.started_at)
                self.engines[model] = replace(engine, state=Awake(ready_at=now))
        return True

    def _fall_asleep(self, engine: EngineObservation, operation: Operation | None, now: float) -> None:
        level = SleepLevel.WEIGHTS_OFFLOADED if operation is None or operation.level is None else operation.level
        footprint = self._footprints[engine.model]
        copy = engine.host_copy_bytes
        if level is SleepLevel.WEIGHTS_OFFLOADED and not copy:
            copy = host_copy_bytes(footprint)
        if operation is not None:
            self._learn(engine.model, sleep_s=now - operation.started_at)
        self.engines[engine.model] = replace(
            engine, state=Asleep(level=level), measured_bytes=footprint.asleep_bytes, host_copy_bytes=copy
        )  # fmt: skip

    def _operate(self, verb: Verb, action: Sleep | Wake | Stop, now: float, *, level: SleepLevel | None = None) -> None:
        self.operations[action.model] = Operation(
            verb=verb, engine_id=action.engine_id, model=action.model, node=action.node, devices=action.devices,
            started_at=now, memory_bytes=0, level=level,
        )  # fmt: skip

    def _learn(self, model: str, **seconds: float) -> None:
        """Of all replicas."""
        served, learned = self._specs[model].served_name, {name: round(took, 3) for name, took in seconds.items()}
        for name, spec in self._specs.items():
            if spec.served_name == served:
                self._footprints[name] = replace(self._footprints[name], **learned)  # type: ignore[arg-type]

    def _of(self, model: str) -> ModelCosts:
        return self._costs[self._specs[model].served_name]

    def _look(self, node: Node) -> Node:
        held: dict[int, int] = {}
        for engine in self.engines.values():
            if engine.node == node.name:
                for device in engine.devices:
                    held[device] = held.get(device, 0) + (engine.measured_bytes or 0)
        devices = tuple(
            replace(
                device, used_bytes=None if device.used_bytes is None else device.used_bytes + held.get(device.index, 0)
            )
            for device in node.devices
        )
        return replace(node, devices=devices)
