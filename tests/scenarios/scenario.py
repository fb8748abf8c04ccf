"""A situation, from a few lines of YAML to the two states that a plan is made of.

    devices: [24GiB, 24GiB]          what the machine has; `foreign: {0: 4GiB}` is held by others, `unreadable: [1]`
    nodes: {n1: {devices: [24GiB], is: lost, said: why, read: 40s}}     where there are several; `foreign`, too
    models: {a: {memory: 10GiB}}     as in models.yaml; `policy` too
    engines: {a: {gpus: [0], is: awake, used: 5m}}     how long ago it was used last
    demand: {b: {waiting: 2, since: 40s, in_flight: 1, closed: 10s, drained: 60s, left: 6s, keep_alive: 5m}}
    operations: {a: {verb: wake, gpus: [0]}}
    a further replica of a is called a#2, as everywhere
    measured: {a: {load: 60s}}       what earlier starts have taught; `part: 0.5` of an engine: by its log
    overrides: {a: stop}             or start, or sleep; `crashes: {a: {count: 2, last: 5s, cause: ...}}`
    steps:                           each says what is different, and what is planned then
      - carried out                  the plan before it
      - {after: 40s, demand: {a: null}}

A sleeper holds 1 GiB (else `holds`; and `first_held` after its first sleep), and its copy in host memory takes three
quarters of what it holds awake, unless said otherwise.
Durations are ages: how long ago. Everything happens on a node called `here`, or on what an engine says: `node: n1`, and
`further: {n2: [0, 1]}` of one that spans nodes.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vllama.cli.render.plan import render_plan
from vllama.controller.manifest.load import Manifest, load_bytes
from vllama.domain.decision import Plan
from vllama.domain.demand import Demand, KeepAlive, Override, WantAsleep, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    Broken,
    Crashes,
    Device,
    EngineObservation,
    EngineState,
    Exited,
    Footprint,
    Loading,
    Node,
    NodeState,
    Operation,
    Place,
    Snapshot,
    Unknown,
    Verb,
)
from vllama.domain.replicas import expanded
from vllama.domain.spec import SleepLevel
from vllama.domain.units import GIB, parse_bytes, parse_duration
from vllama.gateway.render import plan_json
from vllama.planner import plan
from vllama.planner.check import check
from vllama.planner.project import apply

NODE = "here"
START_AT = 100_000.0
WIDTH = 100
RESIDUE_BYTES = GIB
KEYS = {"nodes", "devices", "foreign", "unreadable", "host", "sleep_frees", "policy", "models", "engines", "demand",
        "operations", "overrides", "crashes", "measured", "steps"}  # fmt: skip


@dataclass(slots=True)
class Scenario:
    """`said` is what the YAML says now; what was carried out is in `desired` and `snapshot`."""

    said: dict[str, Any]
    now: float = START_AT
    desired: DesiredState | None = None
    snapshot: Snapshot | None = None

    def plan(self) -> Plan:
        if self.desired is None or self.snapshot is None:
            self._read()
        assert self.desired is not None
        assert self.snapshot is not None
        return plan(self.desired, self.snapshot, self.now)

    def carry_out(self, done: Plan) -> None:
        assert self.desired is not None
        assert self.snapshot is not None
        self.desired, self.snapshot = apply(done, self.desired, self.snapshot, self.now)

    def change(self, step: dict[str, Any]) -> None:
        """Time passes, and what the step names is as it says from then on; null: it is no more."""
        self.now += parse_duration(step.pop("after", 0))
        unknown = step.keys() - KEYS
        assert not unknown, f"a step cannot say {unknown}"
        assert self.desired is not None
        assert self.snapshot is not None
        fresh = Scenario(said={**self.said, **step}, now=self.now)
        fresh._read()
        assert fresh.desired is not None
        assert fresh.snapshot is not None
        engines = list(self.snapshot.engines) if "engines" not in step else []
        engines += [e for e in fresh.snapshot.engines if e.model in step.get("engines", {})]
        demand = {
            **self.desired.demand,
            **{m: d for m, d in fresh.desired.demand.items() if m in step.get("demand", {})},
        }
        self.said = fresh.said
        self.desired = replace(
            fresh.desired, demand=demand,
            overrides=fresh.desired.overrides if "overrides" in step else self.desired.overrides,
        )  # fmt: skip
        self.snapshot = replace(
            fresh.snapshot, engines=tuple(engines), nodes=self._nodes(engines),
            operations=fresh.snapshot.operations if "operations" in step else (),
        )  # fmt: skip

    def _read(self) -> None:
        said = self.said
        unknown = said.keys() - KEYS
        assert not unknown, f"a scenario cannot say {unknown}"
        text = json.dumps({"models": said.get("models", {}), "policy": said.get("policy", {})})
        manifest = load_bytes(text.encode(), file="scenario", environ={})
        engines = [self._engine(manifest, name, each) for name, each in said.get("engines", {}).items() if each]
        models = expanded(manifest.models.values())
        footprints = {name: _footprint(manifest, spec.served_name, said) for name, spec in models.items()}
        self.desired = DesiredState(
            generation=1, models=models, policy=manifest.policy, since=START_AT - 3600,
            demand={name: self._demand(each or {}) for name, each in said.get("demand", {}).items()},
            overrides={name: self._override(each) for name, each in said.get("overrides", {}).items() if each},
        )  # fmt: skip
        self.snapshot = Snapshot(
            taken_at=self.now, nodes=self._nodes(engines), engines=tuple(engines),
            operations=tuple(self._operation(name, each) for name, each in said.get("operations", {}).items() if each),
            footprints=footprints,
            crashes={
                name: Crashes(count=each["count"], last_at=self._ago(each["last"]), cause=each["cause"])
                for name, each in said.get("crashes", {}).items()
            },
        )  # fmt: skip

    def _ago(self, age: str | float | None) -> float:
        return self.now - parse_duration(0 if age is None else age)

    def _nodes(self, engines: list[EngineObservation]) -> tuple[Node, ...]:
        one = {key: self.said[key] for key in ("devices", "foreign", "unreadable") if key in self.said}
        return tuple(self._node(name, said, engines) for name, said in self.said.get("nodes", {NODE: one}).items())

    def _node(self, name: str, said: dict[str, Any], engines: list[EngineObservation]) -> Node:
        devices, reserve = [], parse_bytes(self.said.get("policy", {}).get("reserve", 0))
        for index, total in enumerate(said["devices"]):
            foreign = parse_bytes(said.get("foreign", {}).get(index, 0))
            used = foreign + sum(engine.measured_bytes or 0 for engine in engines if (name, index) in engine.keys)
            known = index not in said.get("unreadable", [])
            devices.append(
                Device(
                    index=index, name="GPU", total_bytes=parse_bytes(total), reserve_bytes=reserve,
                    used_bytes=used if known else None, foreign_bytes=foreign if "read" in said else None,
                )
            )  # fmt: skip
        return Node(
            name=name, devices=tuple(devices), host_budget_bytes=parse_bytes(self.said.get("host", "64GiB")),
            sleep_frees_memory=self.said.get("sleep_frees", True), state=NodeState(said.get("is", "ready")),
            said=said.get("said", ""), seen_at=self._ago(said["read"]) if "read" in said else None,
        )  # fmt: skip

    def _engine(self, manifest: Manifest, name: str, said: dict[str, Any]) -> EngineObservation:
        spec = expanded(manifest.models.values()).get(name.partition("/")[0])
        memory = parse_bytes(said.get("memory", spec.memory_bytes if spec and spec.memory_bytes else "4GiB"))
        state = self._state(said)
        holds = RESIDUE_BYTES if isinstance(state, Asleep) else memory
        return EngineObservation(
            engine_id=f"{name}-engine", model=name.partition("/")[0], **_places(said),
            spec_hash=said.get("settings", spec.spec_hash if spec else "gone"), memory_bytes=memory, state=state,
            started_at=self._ago(said.get("started", said.get("used", "1h"))),
            measured_bytes=parse_bytes(said.get("holds", holds)),
            first_residue_bytes=parse_bytes(said["first_held"]) if "first_held" in said else None,
            host_copy_bytes=memory * 3 // 4 if state == Asleep(level=SleepLevel.WEIGHTS_OFFLOADED) else 0,
        )  # fmt: skip

    def _state(self, said: dict[str, Any]) -> EngineState:
        since = self._ago(said.get("since", said.get("used", "1h")))
        match said["is"]:
            case "awake":
                return Awake(ready_at=since)
            case "loading":
                return Loading(progress_at=since, part=said.get("part", 0.0))
            case "asleep":
                return Asleep(level=SleepLevel(said.get("level", 1)))
            case "exited":
                return Exited(code=said.get("code", 1), cause=said["cause"])
            case "broken":
                return Broken(cause=said["cause"])
            case "unknown":
                return Unknown(since=since, error="no answer in time")
            case other:
                raise AssertionError(f"no engine is {other}")

    def _demand(self, said: dict[str, Any]) -> Demand:
        waiting, flying = said.get("waiting", 0), said.get("in_flight", 0)
        return Demand(
            waiting=waiting, oldest_waiting_at=self._ago(said.get("since")) if waiting else None, in_flight=flying,
            last_used_at=self._ago(said["used"]) if "used" in said else self.now if flying else None,
            admission_closed_at=self._ago(said["closed"]) if "closed" in said else None,
            drain_ended_at=self._ago(said["drained"]) if "drained" in said else None,
            left_at=self._ago(said["left"]) if "left" in said else None,
            keep_alive=KeepAlive(idle_s=_idle_s(said["keep_alive"])) if "keep_alive" in said else None,
        )  # fmt: skip

    def _override(self, said: str) -> Override:
        match said:
            case "start":
                return WantReady(at=self.now)
            case "stop":
                return WantStopped(at=self.now)
            case "sleep":
                return WantAsleep(at=self.now)
            case other:
                raise AssertionError(f"no operator can {other}")

    def _operation(self, name: str, said: dict[str, Any]) -> Operation:
        memory = self.said["models"][name.partition("#")[0]].get("memory", "4GiB")
        return Operation(
            verb=Verb(said["verb"]), engine_id=f"{name}-engine", model=name, **_places(said),
            started_at=self._ago(said.get("since", "2s")), memory_bytes=parse_bytes(memory),
            level=SleepLevel(said.get("level", 1)) if said["verb"] == "sleep" else None,
        )  # fmt: skip


def _places(said: dict[str, Any]) -> dict[str, Any]:
    further = (Place(node=node, devices=tuple(gpus)) for node, gpus in said.get("further", {}).items())
    return {"node": said.get("node", NODE), "devices": tuple(said["gpus"]), "further": tuple(further)}


def _footprint(manifest: Manifest, name: str, said: dict[str, Any]) -> Footprint:
    memory = manifest.models[name].memory_bytes or 4 * GIB
    measured = (said.get("measured") or {}).get(name, {})
    return Footprint(
        awake_bytes=memory, asleep_bytes=RESIDUE_BYTES, weights_bytes=memory // 2,
        load_s=parse_duration(measured["load"]) if "load" in measured else None,
    )  # fmt: skip


def _idle_s(said: str) -> float | None:
    return None if said == "never" else parse_duration(said)


def tell(path: Path) -> str:
    """The plan of the situation and of every step, as `vllama plan` prints it. Asserts the second opinion, too."""
    said = yaml.safe_load(path.read_text())
    steps = said.pop("steps", [])
    scenario = Scenario(said=said)
    made = scenario.plan()
    told = [_shown(scenario, made)]
    for step in steps:
        if step == "carried out":
            scenario.carry_out(made)
            title = "carried out"
        else:
            title = ", ".join(_words(key, value) for key, value in step.items())
            scenario.change(dict(step))
        made = scenario.plan()
        told.append(f"\n--- {title}\n\n{_shown(scenario, made)}")
    return "\n".join(told) + "\n"


def _words(key: str, value: Any) -> str:
    return f"{key} {value}" if isinstance(value, (str, int)) else f"{key} {json.dumps(value)}"


def _shown(scenario: Scenario, made: Plan) -> str:
    assert scenario.desired is not None
    assert scenario.snapshot is not None
    assert check(scenario.desired, scenario.snapshot, scenario.now, made) == ()
    several = len(scenario.snapshot.nodes) > 1
    return str(render_plan(plan_json(made), width=WIDTH, several_nodes=several).plain)
