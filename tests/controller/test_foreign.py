"""What others hold of far devices is known from the moment at which it was read."""

from dataclasses import replace
from pathlib import Path

from vllama.controller.foreign import Foreign
from vllama.domain.observed import Device, Node
from vllama.domain.units import GIB
from vllama.runtime.base import EngineProcess, Reading


def node(seen_at: float | None, used_gib: int = 12) -> Node:
    devices = tuple(Device(index=i, name="GPU", total_bytes=24 * GIB, used_bytes=used_gib * GIB) for i in (0, 1))
    return Node(name="n1", devices=devices, host_budget_bytes=0, sleep_frees_memory=True, seen_at=seen_at)


ENGINE = EngineProcess(
    engine_id="e", model="a", spec_hash="x", node="n1", devices=(0,), memory_bytes=10 * GIB, pid=1, port=2,
    started_at=0.0, log=Path("log"),
)  # fmt: skip


def known(foreign: Foreign, of: Node) -> list[int | None]:
    return [device.foreign_bytes for device in foreign.on(of).devices]


def test_what_is_used_beside_our_engines_is_the_others():
    foreign, read = Foreign(), Reading(nodes=(node(100.0),), measured_bytes={"e": 10 * GIB})
    foreign.note(read, [ENGINE])
    assert known(foreign, node(100.0)) == [2 * GIB, 12 * GIB]


def test_an_old_reading_is_not_told_apart_anew_when_its_engines_have_gone():
    foreign, read = Foreign(), Reading(nodes=(node(100.0),), measured_bytes={"e": 10 * GIB})
    foreign.note(read, [ENGINE])
    foreign.note(read, [])
    assert known(foreign, node(100.0)) == [2 * GIB, 12 * GIB]
    foreign.note(replace(read, nodes=(node(103.0),)), [])
    assert known(foreign, node(103.0)) == [12 * GIB, 12 * GIB]


def test_nobody_tells_what_an_engine_holds_and_nothing_is_said():
    foreign = Foreign()
    foreign.note(Reading(nodes=(node(100.0),)), [ENGINE])
    assert known(foreign, node(100.0)) == [None, 12 * GIB]


def test_on_this_machine_figures_are_never_old():
    foreign = Foreign()
    foreign.note(Reading(nodes=(node(None),)), [])
    assert known(foreign, node(None)) == [None, None]
