"""What of a snapshot is believed: nothing of a node that does not answer, of an old reading what others hold."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from vllama.domain.observed import Broken, EngineObservation, Exited, Lost, Node, NodeState, Snapshot

STALE_S = 30.0  # a reading of memory that is older tells what others held, and not what ours do


def believed(snapshot: Snapshot) -> tuple[EngineObservation, ...]:
    """Its engines. All of one away: it is lost. A part of it away: what is left is there, and broken. Where memory was
    not read lately: it holds what it is declared to.
    """
    away = {node.name: why_away(node) for node in snapshot.nodes if node.state is not NodeState.READY}
    stale = {node.name for node in snapshot.nodes if is_stale(node, snapshot.taken_at)}
    if not away and not stale:
        return snapshot.engines
    return tuple(_believed(engine, away, stale) for engine in snapshot.engines)


def is_stale(node: Node, taken_at: float) -> bool:
    """`taken_at`: of the snapshot that it is in."""
    return node.seen_at is not None and taken_at - node.seen_at > STALE_S


def why_away(node: Node) -> str:
    """What is the matter with a node that is not ready, in words."""
    if node.state is NodeState.FENCED:
        said = f" ({node.said})" if node.said else ""
        return f"{node.name} is back, but has not said yet that nothing is left on it{said}"
    return f"{node.name} does not answer{f' ({node.said})' if node.said else ''}"


def _believed(engine: EngineObservation, away: Mapping[str, str], stale: Collection[str]) -> EngineObservation:
    gone = [away[name] for name in engine.nodes if name in away]
    if len(gone) == len(engine.nodes):
        return replace(engine, state=Lost(cause=f"{'; '.join(gone)}."))
    if gone:
        first, *further = [place for place in engine.places if place.node not in away]
        cause = Broken(cause=f"A part of it is away: {'; '.join(gone)}.")
        state = engine.state if isinstance(engine.state, Exited) else cause
        engine = replace(engine, state=state, node=first.node, devices=first.devices, further=tuple(further))
    return replace(engine, measured_bytes=None) if any(name in stale for name in engine.nodes) else engine
