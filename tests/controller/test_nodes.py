from dataclasses import replace

import pytest

from tests.machines import CODER, EMBED, LARGE, READ, SMALL, three_machines
from tests.planner.cluster import NOW, Cluster
from vllama.controller.nodes import node_statuses
from vllama.domain.observed import NodeState
from vllama.domain.status import Phase


def statuses(read_at: float = NOW):
    return node_statuses(three_machines()[1], read_at=read_at, wall_minus_clock=1000.0)


def test_each_says_its_state_and_why_and_when_it_was_read():
    told = [(each.name, each.address, each.state, each.said, each.read_at) for each in statuses()]
    assert told == [
        ("gpu-1", "10.0.0.1", NodeState.READY, "", READ + 1000),
        ("gpu-2", "10.0.0.2", NodeState.LOST, "its agent has been silent for 41s", NOW - 41 + 1000),
        ("gpu-3", "10.0.0.3", NodeState.FENCED, "", NOW + 1000),
    ]
    assert statuses(read_at=-1.0)[2].read_at is None


def test_an_engine_is_on_each_of_its_nodes_that_answer_and_what_is_on_the_others_is_lost():
    on = {each.name: [(one.model, one.phase, one.devices) for one in each.engines] for each in statuses()}
    assert on["gpu-1"] == [
        (SMALL, Phase.READY, (0,)), (EMBED, Phase.ASLEEP, (1,)), (EMBED, Phase.STARTING, (1,)),
        (LARGE, Phase.FAILED, (1,)),
    ]  # fmt: skip
    assert on["gpu-2"] == [(CODER, Phase.LOST, (0,))]
    assert on["gpu-3"] == []


def test_what_is_not_told_is_not_made_up():
    second = statuses()[1]
    assert [device.used_bytes for device in second.devices][1] is None
    assert second.host_available_bytes is None


@pytest.mark.parametrize("seen_at", [None, NOW - 5])
def test_one_machine_is_a_node_like_any(seen_at):
    _, snapshot = Cluster((8.0,)).model("org/a", 2.0).engine("org/a").states()
    snapshot = replace(snapshot, nodes=(replace(snapshot.nodes[0], seen_at=seen_at),))
    [node] = node_statuses(snapshot, read_at=NOW - 2, wall_minus_clock=0.0)
    assert (node.name, node.address, node.state, len(node.engines)) == ("here", "127.0.0.1", NodeState.READY, 1)
    assert node.read_at == (NOW - 2 if seen_at is None else seen_at)
