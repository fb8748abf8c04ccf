"""What the admin API answers to questions, made by the planner itself out of small clusters."""

from dataclasses import replace
from typing import Any

from tests.machines import three_machines
from tests.planner.cluster import NOW, Cluster
from vllama.controller.card import Command, Failures, LevelVerdict, ModelCard, Running
from vllama.controller.events import Event
from vllama.controller.figures import Figures, Source
from vllama.controller.manifest.effective import effective
from vllama.controller.nodes import node_statuses
from vllama.domain.observed import Asleep, Crashes, ForeignProcess, Loading
from vllama.domain.spec import IdleSpec, LaunchSpec, ModelSpec, SleepLevel
from vllama.domain.status import ModelStatus, Phase
from vllama.domain.units import GIB, MIB
from vllama.gateway.enquiry_json import card_json, matrix_json, memory_json, rehearsal_json
from vllama.gateway.nodes import nodes_json
from vllama.planner.books import books_of
from vllama.planner.rehearse import rehearse
from vllama.planner.together import matrix_of

LARGE = "meta-llama/Llama-3.3-70B-Instruct"
SMALL, CODER, EMBED = "Qwen/Qwen3-8B", "Qwen/Qwen2.5-Coder-14B", "Qwen/Qwen3-Embedding-0.6B"

AT = 1762171200.0  # 2025-11-03T12:00:00Z

FIGURES = (
    Figures(
        model=CODER, awake_bytes=30 * GIB, asleep_bytes=1331 * MIB, weights_bytes=28 * GIB, host_copy_bytes=42 * GIB,
        rests_after_s=1800.0, sources={
            "awake_bytes": Source.ESTIMATED, "asleep_bytes": Source.ASSUMED, "weights_bytes": Source.ESTIMATED,
            "host_copy_bytes": Source.ASSUMED,
        },
    ),
    Figures(
        model=EMBED, awake_bytes=3 * GIB, asleep_bytes=700 * MIB, weights_bytes=6 * GIB // 5,
        host_copy_bytes=9 * GIB // 5, load_s=21.4, sources={
            "awake_bytes": Source.DECLARED, "asleep_bytes": Source.MEASURED, "weights_bytes": Source.LOG,
            "host_copy_bytes": Source.ASSUMED, "load_s": Source.MEASURED,
        },
    ),
    Figures(
        model=SMALL, awake_bytes=24 * GIB, asleep_bytes=1400 * MIB, weights_bytes=15 * GIB, cache_bytes=7 * GIB,
        host_copy_bytes=45 * GIB // 2, load_s=48.2, sleep_s=3.1, wake_s=0.82, rests_after_s=600.0, rests_at=1, sources={
            "awake_bytes": Source.DECLARED, "asleep_bytes": Source.MEASURED, "weights_bytes": Source.LOG,
            "cache_bytes": Source.LOG, "host_copy_bytes": Source.ASSUMED, "load_s": Source.MEASURED,
            "sleep_s": Source.MEASURED, "wake_s": Source.MEASURED,
        },
    ),
)  # fmt: skip


def two_gpus() -> Cluster:
    """One of 48 GiB that is full, one of 80 GiB with others on it; all of a night's states."""
    cluster = Cluster((48.0, 80.0), residue=1.3, reserve=0.5, host=64.0, foreign={1: 12.4})
    cluster.model(SMALL, 24.0, weights=15.0).model(EMBED, 3.0, weights=1.2, pin=True).model(CODER, 30.0, weights=28.0)
    cluster.model(LARGE, 38.0, weights=132.0, device_count=2)
    cluster.engine(SMALL, 0).engine(EMBED, 0).asleep(CODER, 1)
    cluster.engines[-1] = replace(cluster.engines[-1], host_measured_bytes=33 * GIB)
    return cluster


def memory(cluster: Cluster, *foreign: ForeignProcess, **node: Any) -> dict[str, Any]:
    desired, snapshot = cluster.states()
    [machine] = snapshot.nodes
    devices = tuple(replace(each, foreign=foreign if each.index == 1 else ()) for each in machine.devices)
    snapshot = replace(snapshot, nodes=(replace(machine, devices=devices, **node),))
    return memory_json(books_of(desired, snapshot), FIGURES)


def everything() -> dict[str, Any]:
    processes = (
        ForeignProcess(pid=4711, name="comfyui", memory_bytes=12 * GIB),
        ForeignProcess(pid=812, name="Xorg", memory_bytes=350 * MIB),
        ForeignProcess(pid=9, name="?", memory_bytes=None),
    )
    return memory(two_gpus(), *processes, host_available_bytes=20 * GIB)


def three_nodes(at: float = AT) -> dict[str, Any]:
    """The answer of /admin/nodes, read at `at` of the wall clock."""
    nodes = node_statuses(three_machines()[1], read_at=NOW, wall_minus_clock=at - NOW)
    return {"nodes": nodes_json(nodes)}


def trouble() -> dict[str, Any]:
    """An overdrawn device, one that tells nothing, and an engine where no device is."""
    cluster = Cluster((8.0, 8.0), unknown={1}).model("org/a", 6.0).model("org/b", 4.0).model("org/lost", 2.0)
    cluster.engine("org/a", 0, state=Loading(progress_at=NOW), measured_bytes=GIB).asleep("org/b", 1)
    cluster.engine("org/b", 0, state=Asleep(level=SleepLevel.DISCARDED), measured_bytes=3 * GIB)
    desired, snapshot = cluster.states()
    lost = replace(snapshot.engines[0], engine_id="x1", model="org/lost", devices=(9,), memory_bytes=2 * GIB)
    return memory_json(books_of(desired, replace(snapshot, engines=(*snapshot.engines, lost))), ())


def calling(cluster: Cluster, *models: str) -> dict[str, Any]:
    return rehearsal_json(rehearse(*cluster.states(), NOW, models))


def swap() -> dict[str, Any]:
    return calling(two_gpus(), LARGE)


def waits() -> dict[str, Any]:
    """Requests in flight, a pause after a failure, and one that can never be."""
    cluster = Cluster((8.0, 8.0)).model("org/a", 5.0).model("org/c", 6.0, devices=(0,)).model("org/x", 99.0)
    cluster.model("org/b", 4.0, devices=(1,)).busy("org/a", 0, requests=2)
    cluster.crashes["org/b"] = Crashes(count=3, last_at=NOW - 5, cause="torch.OutOfMemoryError: CUDA out of memory.")
    return calling(cluster, "org/x", "org/c", "org/b")


def together(cluster: Cluster) -> dict[str, Any]:
    return matrix_json(matrix_of(*cluster.states(), NOW))


def five_models() -> dict[str, Any]:
    cluster = Cluster((48.0, 48.0), reserve=0.5).model(EMBED, 3.0, pin=True).model("org/huge", 200.0)
    cluster.model(SMALL, 24.0).model(CODER, 30.0).model(LARGE, 38.0, device_count=2)
    return together(cluster.model("org/on-gpu0", 20.0, devices=(0,)).model("org/most-of-one", 44.0))


def many_models(count: int) -> dict[str, Any]:
    cluster = Cluster()
    for number in range(count):
        cluster.model(f"org/model-{number:02}", 1.5 + number % 4 * 2)
    return together(cluster)


def running_card() -> dict[str, Any]:
    spec = ModelSpec(
        model=SMALL,
        aliases=("qwen", "small"),
        memory_bytes=24 * GIB,
        idle=IdleSpec(sleep_after_s=600.0, level=SleepLevel(1)),
        launch=LaunchSpec(
            settings=(("max_model_len", 32768), ("trust_remote_code", True)),
            extra_args=(("hf-token", "hf_abcdefghijklmnopqrst"), ("max-num-seqs", 256)),
            env=(("HF_TOKEN", "x"),),
        ),
    )
    status = ModelStatus(
        model=SMALL,
        phase=Phase.READY,
        reason="Serving",
        message="2 in flight.",
        declared=True,
        aliases=("qwen", "small"),
        node="local",
        devices=(0,),
        pid=41234,
        port=33301,
        in_flight=2,
        waiting=1,
    )
    return card_json(ModelCard(
        status=status, settings=effective(spec), figures=FIGURES[2], tasks=("generate",), failures=None,
        levels=(LevelVerdict(level=1, why_not=None), LevelVerdict(level=2, why_not="it answered otherwise")),
        engine=Running(
            engine_id="04ee484763b7", node="local", devices=(0,), pid=41234, port=33301, started_at=AT - 3600,
            current=False, memory_bytes=24 * GIB, measured_bytes=23 * GIB, host_copy_bytes=45 * GIB // 2,
        ),
        command=Command(
            argv=("vllm", "serve", SMALL, "--served-model-name", SMALL, "--port", "33301", "--enable-sleep-mode",
                  "--hf-overrides", '{"rope": 2}'),
            env=(("CUDA_VISIBLE_DEVICES", "0"), ("HF_TOKEN", "***")),
        ),
        lately=(
            Event(at=AT - 120, model=SMALL, reason="wakeFailed", message="POST /wake_up: 500", warning=True),
            Event(at=AT - 60, model=SMALL, reason="loadDone", message="took 48.20 s"),
        ),
        log="/home/me/.vllama/logs/Qwen_Qwen3-8B-0a1b2c3d.log",
    ))  # fmt: skip


def stopped_card() -> dict[str, Any]:
    spec = ModelSpec(model="org/broken", memory_bytes=90 * GIB, declared=False)
    status = ModelStatus(
        model="org/broken", phase=Phase.STOPPED, reason="BackingOff", message="Failed 3x in a row.", declared=False
    )
    return card_json(ModelCard(
        status=status, settings=effective(spec), figures=Figures(model="org/broken", awake_bytes=90 * GIB,
        sources={"awake_bytes": Source.DECLARED}), tasks=None, levels=(), engine=None, lately=(),
        failures=Failures(count=3, last_at=AT - 5, cause="CUDA out of memory.", retry_in_s=35.0),
        command=Command(problem="Needs 90.0 GiB; gpu0 has 24.0 GiB."), log="/logs/org_broken.log",
    ))  # fmt: skip
