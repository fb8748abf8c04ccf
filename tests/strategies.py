"""Hypothesis strategies for clusters: `any_state` (anything goes, for safety), `sane_state` (memory adds up) and
`quiet_state` (sane, with nothing unknown, broken, busy or under way: what a cluster is when faults have stopped).

Sizes are whole halves of GiB near what devices hold, times lie on and around the policy's bounds: there the bugs are.
"""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from vllama.domain.demand import LATEST, Demand, KeepAlive, WantAsleep, WantReady, WantStopped
from vllama.domain.desired import DesiredState
from vllama.domain.observed import (
    Asleep,
    Awake,
    Broken,
    Crashes,
    Device,
    DeviceKey,
    EngineObservation,
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
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, OnConflict, Policy, SleepLevel, VictimPolicy
from vllama.domain.units import GIB

NOW = 10_000.0
HALF = GIB // 2
NAMES = tuple(f"m{i}" for i in range(8))
NODES = ("here", "there", "yonder")
LEVELS = (SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    desired: DesiredState
    snapshot: Snapshot
    now: float = NOW


def halves(low: float, high: float) -> st.SearchStrategy[int]:
    """Bytes, in steps of half a GiB."""
    return st.integers(int(low * 2), int(high * 2)).map(lambda count: count * HALF)


def rarely(strategy: st.SearchStrategy, otherwise: object) -> st.SearchStrategy:
    """`strategy` one time in five."""
    return st.one_of(*[st.just(otherwise)] * 4, strategy)


AGES = st.sampled_from(
    [0.0, 1.0, 9.5, 10.0, 29.0, 30.0, 31.0, 60.0, 119.0, 120.0, 121.0, 600.0, 1799.0, 1800.0, 7200.0]
)
TIMES = AGES.map(lambda age: NOW - age)
STATES = st.one_of(
    st.builds(Awake, ready_at=TIMES),
    st.builds(Awake, ready_at=TIMES),
    st.builds(Asleep, level=st.sampled_from(LEVELS)),
    st.builds(Asleep, level=st.sampled_from(LEVELS)),
    st.builds(Loading, progress_at=TIMES, part=st.sampled_from([0.0, 0.5])),
    st.builds(Exited, code=st.sampled_from([None, 0, 1, -9]), cause=st.just("it ended")),
    st.builds(Broken, cause=st.just("wake failed")),
    st.builds(Unknown, since=TIMES, error=st.just("timeout")),
)
FOOTPRINTS = st.builds(
    Footprint, awake_bytes=halves(1, 20), asleep_bytes=halves(0.5, 2), weights_bytes=halves(0.5, 12),
    fixed_bytes=rarely(halves(0.5, 12), None), cache_bytes=st.sampled_from([None, HALF, GIB]),
    discardable=st.booleans(), refused_levels=rarely(st.sets(st.sampled_from(LEVELS)).map(frozenset), frozenset()),
    load_s=st.sampled_from([None, 30.0, 60.0]), wake_s=st.sampled_from([None, 2.0]),
)  # fmt: skip
OVERRIDES = st.one_of(
    st.builds(WantReady, at=TIMES),
    st.builds(WantStopped, at=TIMES),
    st.builds(WantAsleep, at=TIMES, level=st.sampled_from([None, *SleepLevel])),
)
CRASHES = st.builds(Crashes, count=st.integers(1, 12), last_at=TIMES, cause=st.just("CUDA out of memory"))
IDLE = st.builds(
    IdleSpec, sleep_after_s=st.sampled_from([None, 60.0, 1800.0]), stop_after_s=st.sampled_from([None, 7200.0]),
    level=st.sampled_from([None, *SleepLevel]),
)  # fmt: skip

POLICIES = st.builds(Policy, victims=st.sampled_from(VictimPolicy))
KEPT = st.builds(KeepAlive, idle_s=st.sampled_from([None, 0.0, 30.0]))


@st.composite
def specs(draw: st.DrawFn, model: str, *, wide: bool = False) -> ModelSpec:
    """`wide`: for several nodes; it may be larger than any of them, or name one."""
    share = draw(rarely(st.sampled_from([0.25, 0.5, 0.9]), None))
    settings = () if share is None else (("gpu_memory_utilization", share),)
    tensor = draw(rarely(st.sampled_from([2, 3]), None))
    settings += () if tensor is None else (("tensor_parallel_size", tensor),)
    return ModelSpec(
        model=model, launch=LaunchSpec(settings=settings), memory_bytes=None if share else draw(halves(1, 14)),
        device_count=draw(st.sampled_from([1, 1, 1, 2, 2, 4, 6])) if wide else draw(st.sampled_from([1, 1, 1, 2])),
        idle=draw(IDLE), node=draw(rarely(st.sampled_from(NODES), None)) if wide else None,
        devices=draw(rarely(st.sets(st.integers(0, 3), min_size=1).map(lambda s: tuple(sorted(s))), None)),
        eviction_level=draw(rarely(st.sampled_from([*SleepLevel]), None)),
        sleep_mode=draw(rarely(st.just(False), True)),
        pin=draw(rarely(st.just(True), False)), priority=draw(rarely(st.integers(-2, 3), 0)),
        on_conflict=draw(rarely(st.just(OnConflict.REFUSE), OnConflict.QUEUE)),
        replicas=draw(rarely(st.sampled_from([2, 3]), 1)),
    )  # fmt: skip


@st.composite
def demands(draw: st.DrawFn, *, busy: bool = True) -> Demand:
    waiting = draw(st.sampled_from([0, 0, 1, 3]))
    in_flight = draw(st.sampled_from([0, 0, 0, 1, 4])) if busy else 0
    asked = tuple(sorted(draw(st.lists(TIMES, max_size=LATEST))))
    return Demand(
        waiting=waiting, oldest_waiting_at=draw(TIMES) if waiting else None, in_flight=in_flight,
        last_used_at=draw(st.one_of(st.none(), TIMES)), admission_closed_at=draw(rarely(TIMES, None)),
        drain_ended_at=draw(rarely(TIMES, None)), left_at=draw(rarely(TIMES, None)),
        keep_alive=draw(rarely(KEPT, None)), asked=asked,
    )  # fmt: skip


@st.composite
def nodes(draw: st.DrawFn, name: str = "here", *, plain: bool = False, like: Node | None = None) -> Node:
    """`plain`: nothing unknown, and sleeping frees memory. `like`: with the same devices."""
    if like is not None:
        return replace(like, name=name)
    unified = not plain and draw(rarely(st.just(True), False))
    devices = tuple(
        Device(
            index=i, name=f"GPU {i}", total_bytes=draw(halves(8, 24)), reserve_bytes=draw(st.sampled_from([0, HALF])),
            used_bytes=0 if plain else draw(rarely(st.none(), 0)), unified=unified,
        )
        for i in range(draw(st.integers(1, 4)))
    )  # fmt: skip
    frees = plain or draw(rarely(st.just(False), True))
    return Node(
        name=name, devices=devices, host_budget_bytes=draw(halves(0, 40)), sleep_frees_memory=frees,
        host_available_bytes=draw(rarely(halves(0, 40), None)), linked=draw(st.sampled_from([(), ((0, 1), (2, 3))])),
    )  # fmt: skip


def _somewhere(node: Node, size: int) -> st.SearchStrategy[tuple[int, ...]]:
    indices = [device.index for device in node.devices]
    return st.permutations(indices).map(lambda order: tuple(sorted(order[:size])))


@st.composite
def clusters(draw: st.DrawFn, *, plain: bool = False) -> tuple[Node, ...]:
    """One node, or several: alike or not, and where not `plain` some of them away, or not read for a while."""
    first, count = draw(nodes(plain=plain)), draw(st.sampled_from([1, 1, 2, 3]))
    alike = [first if draw(st.booleans()) else None for _ in NODES[1:count]]
    found = first, *(draw(nodes(name, plain=plain, like=like)) for name, like in zip(NODES[1:], alike, strict=False))
    if plain:
        return found
    states = st.sampled_from([NodeState.LOST, NodeState.FENCED])
    return tuple(
        replace(node, state=draw(rarely(states, NodeState.READY)) if count > 1 else NodeState.READY,
                seen_at=draw(rarely(TIMES, None)), said=draw(st.sampled_from(["", "no word for 4s"])))
        for node in found
    )  # fmt: skip


def _elsewhere(there: tuple[Node, ...], besides: Node) -> st.SearchStrategy[tuple[Place, ...]]:
    """More ranks on another node, one time in five."""
    others = [node for node in there if node is not besides]
    if not others:
        return st.just(())
    places = st.sampled_from(others).flatmap(
        lambda node: _somewhere(node, 2).map(lambda devices: (Place(node=node.name, devices=devices),))
    )
    return rarely(places, ())


@st.composite
def any_state(draw: st.DrawFn) -> Situation:
    """Every part is well formed, and nothing has to agree with anything else."""
    there = draw(clusters())
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=8))
    models = expanded(draw(specs(name, wide=len(there) > 1)) for name in names)
    engines = []
    for i in range(draw(st.integers(0, 7))):
        model, where = draw(st.sampled_from([*models, *models, "gone"])), draw(st.sampled_from(there))
        right = models[model].spec_hash if model in models else "gone"
        engines.append(
            EngineObservation(
                engine_id=f"e{i}", model=model, spec_hash=draw(rarely(st.just("old"), right)),
                node=draw(rarely(st.just("lost"), where.name)), state=draw(STATES), memory_bytes=draw(halves(1, 14)),
                devices=draw(rarely(st.just((7,)), draw(_somewhere(where, draw(st.integers(1, 2)))))),
                further=draw(_elsewhere(there, where)),
                started_at=draw(TIMES), measured_bytes=draw(rarely(halves(0, 14), None)),
                host_copy_bytes=draw(rarely(halves(1, 8), 0)), first_residue_bytes=draw(rarely(halves(0.5, 2), None)),
            )
        )  # fmt: skip
    operations = []
    for i in range(draw(rarely(st.integers(1, 3), 0))):
        of = draw(st.sampled_from([*engines, None]))
        operations.append(
            Operation(
                verb=draw(st.sampled_from(list(Verb))), engine_id=of.engine_id if of else f"new{i}",
                model=of.model if of else draw(st.sampled_from(NAMES)), node=of.node if of else there[0].name,
                devices=of.devices if of else draw(_somewhere(there[0], 1)), started_at=draw(TIMES),
                further=of.further if of else (),
                memory_bytes=draw(halves(1, 8)), level=draw(st.sampled_from([None, *LEVELS])),
            )
        )  # fmt: skip
    used = tuple(
        replace(node, devices=tuple(
            replace(d, used_bytes=None if d.used_bytes is None else draw(halves(0, 24)),
                    foreign_bytes=draw(rarely(halves(0, 8), None))) for d in node.devices
        )) for node in there
    )  # fmt: skip
    names = [*models, "gone"]
    return Situation(
        desired=DesiredState(
            generation=1, models=models, policy=draw(POLICIES), since=draw(TIMES),
            demand={name: draw(demands()) for name in names if draw(st.booleans())},
            overrides={name: draw(OVERRIDES) for name in names if draw(rarely(st.just(True), False))},
        ),
        snapshot=Snapshot(
            taken_at=NOW, nodes=used, engines=tuple(engines), operations=tuple(operations),
            footprints={name: draw(FOOTPRINTS) for name in names if draw(st.booleans())},
            crashes={name: draw(CRASHES) for name in names if draw(rarely(st.just(True), False))},
        ),
    )  # fmt: skip


def _holds(engine: EngineObservation, footprint: Footprint) -> int:
    return footprint.asleep_bytes if isinstance(engine.state, Asleep) else engine.memory_bytes


def _under_way(engine: EngineObservation, demand: Demand) -> tuple[Verb, ...]:
    match engine.state:
        case Awake():
            return () if demand.in_flight else (Verb.SLEEP, Verb.STOP)
        case Asleep():
            return (Verb.WAKE, Verb.STOP)
        case Loading():
            return (Verb.START, Verb.STOP)
        case _:
            return (Verb.STOP,)


@st.composite
def sane_state(draw: st.DrawFn, *, quiet: bool = False) -> Situation:  # noqa: C901  a straight line of draws
    """Engines stand where they fit, one operation per device at most, requests only where somebody answers."""
    there = draw(clusters(plain=quiet))
    models: dict[str, ModelSpec] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=8)):
        spec = draw(specs(name, wide=len(there) > 1))
        pins = [other for other in models.values() if other.pin]
        small = spec.device_count == 1 and (spec.memory_bytes or 9 * GIB) <= 3 * GIB and spec.devices is None
        small &= spec.node is None
        models[name] = replace(spec, pin=spec.pin and small and len(pins) < 2)
    models = dict(expanded(models.values()))
    footprints = {name: draw(FOOTPRINTS) for name in [*(name for name in models if "#" not in name), "gone"]}
    footprints |= {name: footprints[spec.served_name] for name, spec in models.items()}
    keys = {(node.name, d.index): d for node in there for d in node.devices}
    foreign = {key: 0 if quiet else draw(rarely(halves(0.5, 4), 0)) for key in keys}
    left = {key: d.total_bytes - d.reserve_bytes - foreign[key] for key, d in keys.items()}
    used, held = dict(foreign), set[DeviceKey]()
    engines: list[EngineObservation] = []
    demand: dict[str, Demand] = {}
    operations: list[Operation] = []
    for i, model in enumerate(draw(st.lists(st.sampled_from([*models, "gone"]), unique=quiet, max_size=7))):
        spec = models.get(model)
        state = draw(st.one_of(st.builds(Awake, ready_at=TIMES), st.builds(Asleep, level=st.sampled_from(LEVELS)))
                     if quiet else STATES)  # fmt: skip
        places = draw(_places(there, spec))
        if not places:
            continue
        here = [(place.node, index) for place in places for index in place.devices]
        smallest = min(keys[key].total_bytes for key in here)
        size = _need(spec, footprints[model], smallest) if spec else 2 * GIB
        engine = EngineObservation(
            engine_id=f"e{i}", model=model, node=places[0].node, devices=places[0].devices, further=tuple(places[1:]),
            memory_bytes=size, state=state,
            spec_hash=draw(rarely(st.just("old"), spec.spec_hash)) if spec else "gone", started_at=draw(TIMES),
            host_copy_bytes=GIB if state == Asleep(level=LEVELS[0]) else 0,
        )  # fmt: skip
        frees = next(node.sleep_frees_memory for node in there if node.name == engine.node)
        holds = _holds(engine, footprints[model]) if frees else size
        if any(left[key] < holds for key in here) or (isinstance(state, Loading) and held & set(here)):
            continue
        engines.append(engine)
        demand.setdefault(model, _possible(draw(demands(busy=not quiet)), engine))
        for key in here:
            left[key] -= holds
            used[key] += holds
        if isinstance(state, Loading):
            held |= set(here)
        verbs = _under_way(engine, demand[model])
        if not quiet and verbs and not held & set(here) and draw(rarely(st.just(True), False)):
            grows = any(left[key] < size - holds for key in here)
            verb = draw(st.sampled_from([verb for verb in verbs if not (grows and verb is Verb.WAKE)]))
            held |= set(here)
            for key in here:
                left[key] -= size - holds if verb is Verb.WAKE else 0
            operations.append(Operation(
                verb=verb, engine_id=engine.engine_id, model=model, node=engine.node, devices=engine.devices,
                further=engine.further, started_at=draw(TIMES), memory_bytes=size,
                level=draw(st.sampled_from(LEVELS)) if verb is Verb.SLEEP else None,
            ))  # fmt: skip
    for name in models:
        if name not in demand and draw(st.booleans()):
            idle = draw(demands(busy=False))
            demand[name] = replace(idle, admission_closed_at=None)
    seen = tuple(
        replace(node, devices=tuple(
            replace(d, used_bytes=None if d.used_bytes is None else used[node.name, d.index],
                    foreign_bytes=None if node.seen_at is None else foreign[node.name, d.index]) for d in node.devices
        )) for node in there
    )  # fmt: skip
    return Situation(
        desired=DesiredState(
            generation=1, models=models, demand=demand, since=draw(TIMES), policy=draw(POLICIES),
            overrides={name: draw(OVERRIDES) for name in models if draw(rarely(st.just(True), False))},
        ),
        snapshot=Snapshot(
            taken_at=NOW, nodes=seen, engines=tuple(engines),
            operations=tuple(operations), footprints=footprints,
            crashes={} if quiet else {name: draw(CRASHES) for name in models if draw(rarely(st.just(True), False))},
        ),
    )  # fmt: skip


@st.composite
def _places(draw: st.DrawFn, there: tuple[Node, ...], spec: ModelSpec | None) -> list[Place]:
    """Somewhere that it may be: on one node, or half of it on each of two where none is large enough. []: nowhere."""
    size = spec.device_count if spec else 1
    usable = [
        [d.index for d in node.devices if spec is None or spec.devices is None or d.index in spec.devices]
        for node in there
    ]
    may = [(node, indices) for node, indices in zip(there, usable, strict=True) if spec is None or spec.node in
           (None, node.name)]  # fmt: skip
    large = [(node, indices) for node, indices in may if len(indices) >= size]
    halves_ = [(node, indices) for node, indices in may if size % 2 == 0 and len(indices) >= size // 2]
    if large:
        node, indices = draw(st.sampled_from(large))
        return [Place(node=node.name, devices=tuple(sorted(draw(st.permutations(indices))[:size])))]
    if len(halves_) < 2:
        return []
    pair = draw(st.permutations(halves_))[:2]
    return [
        Place(node=node.name, devices=tuple(sorted(draw(st.permutations(indices))[: size // 2])))
        for node, indices in pair
    ]


def quiet_state() -> st.SearchStrategy[Situation]:
    return sane_state(quiet=True)


def _need(spec: ModelSpec, footprint: Footprint, total_bytes: int) -> int:
    share = spec.launch.setting("gpu_memory_utilization")
    if spec.memory_bytes is not None:
        return spec.memory_bytes
    return int(float(share or 0.85) * total_bytes)


def _possible(demand: Demand, engine: EngineObservation) -> Demand:
    if isinstance(engine.state, Awake | Unknown):
        return demand
    return replace(demand, in_flight=0, admission_closed_at=None)
