"""A cluster of three machines, one of them silent and one that came back: what people are shown of such."""

from dataclasses import replace

from tests.planner.cluster import NOW, Cluster
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Loading, NodeState, Place, Snapshot
from vllama.domain.units import GIB

SMALL, EMBED, LARGE, CODER = "Qwen/Qwen3-8B", "Qwen/Qwen3-Embedding-0.6B", "meta-llama/Llama-3.3-70B", "org/coder"
READ = NOW - 1.2


def three_machines() -> tuple[DesiredState, Snapshot]:
    """gpu-1 answers, gpu-2 has been silent for 41 s, gpu-3 is back and still fenced. LARGE spans the first two."""
    cluster = Cluster((80.0, 80.0), residue=1.3, available=200.0)
    cluster.model(SMALL, 24.0, weights=15.0).model(EMBED, 3.0, weights=1.2).model(LARGE, 40.0, weights=132.0)
    cluster.model(CODER, 30.0, weights=28.0)
    cluster.engine(SMALL, 0).asleep(EMBED, 1)
    cluster.engine(CODER, 0, node="gpu-2")
    cluster.engine(LARGE, 1, node="gpu-1", further=(Place(node="gpu-2", devices=(1,)),))
    cluster.engine(EMBED, 1, node="gpu-1", engine_id="second", state=Loading(progress_at=NOW))
    desired, snapshot = cluster.states()
    [here] = snapshot.nodes
    first = replace(here, name="gpu-1", address="10.0.0.1", seen_at=READ)
    second = replace(
        here, name="gpu-2", address="10.0.0.2", state=NodeState.LOST, said="its agent has been silent for 41s",
        seen_at=NOW - 41.0, host_available_bytes=None,
        devices=(replace(here.devices[0], used_bytes=30 * GIB), replace(here.devices[1], used_bytes=None)),
    )  # fmt: skip
    third = replace(
        here, name="gpu-3", address="10.0.0.3", state=NodeState.FENCED, said="", seen_at=None,
        devices=(replace(here.devices[0], name="NVIDIA L40S", used_bytes=0),),
    )  # fmt: skip
    engines = tuple(replace(each, node="gpu-1") if each.node == "here" else each for each in snapshot.engines)
    return desired, replace(snapshot, nodes=(third, first, second), engines=engines)
