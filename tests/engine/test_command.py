"""Every situation of golden/*.txt: the command line and environment, as text. VLLAMA_WRITE_GOLDEN=1 writes them."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.domain.action import Start
from vllama.domain.spec import LaunchSpec, ModelSpec
from vllama.domain.units import GIB
from vllama.engine.command import EngineCommand, Rank, serve_command
from vllama.engine.door import Door
from vllama.engine.platform import Platform
from vllama.engine.shown import HIDDEN, shown

GOLDEN = Path(__file__).parent / "golden"
WRITE = bool(os.environ.get("VLLAMA_WRITE_GOLDEN"))  # looked at now: tests see nothing of the user's own
PARENT = {
    "PATH": "/usr/bin",
    "HOME": "/home/me",
    "HF_TOKEN": "hf_x",
    "VLLAMA_PORT": "33258",
    "VLLAMA_SIM_LOAD_S": "0.1",
    "VLLM_API_KEY": "secret",
    "VLLM_PORT": "tcp://10.0.0.1:80",
    "CUDA_VISIBLE_DEVICES": "7",
    "NOTIFY_SOCKET": "/run/systemd/notify",
}
PLAIN = ModelSpec(model="Qwen/Qwen3-0.6B")
START = Start(
    model="Qwen/Qwen3-0.6B",
    spec_hash="abc",
    node="local",
    devices=(0,),
    memory_bytes=24 * GIB,
    gpu_memory_utilization=0.3,
)


def command(
    launch: LaunchSpec | None = None,
    *,
    start: Start = START,
    platform: Platform = Platform.CUDA,
    parent: dict[str, str] | None = None,
) -> EngineCommand:
    return serve_command(
        spec=replace(PLAIN, launch=launch or LaunchSpec()),
        action=start,
        port=33300,
        executable=("/opt/vllm/bin/vllm",),
        platform=platform,
        cache_root=Path("/home/me/.vllama/vllm-cache"),
        parent_env=PARENT if parent is None else parent,
        tag={"VLLAMA_ENGINE_ID": "e1", "VLLAMA_SPEC_HASH": "abc"},
    )


SITUATIONS: dict[str, EngineCommand] = {
    "plain-chat": command(),
    "settings": command(
        LaunchSpec(
            settings=(
                ("dtype", "bfloat16"),
                ("enable_prefix_caching", False),
                ("gpu_memory_utilization", 0.9),
                ("max_model_len", 32768),
                ("trust_remote_code", True),
            )
        )
    ),
    "tensor-parallel-declared": command(
        LaunchSpec(settings=(("pipeline_parallel_size", 2), ("tensor_parallel_size", 2))),
        start=replace(START, devices=(0, 1, 2, 3)),
    ),
    "tensor-parallel-by-devices": command(start=replace(START, devices=(1, 3))),
    "config-file": command(
        LaunchSpec(
            settings=(("async_scheduling", True), ("max_num_seqs", 8)),
            config_file="/etc/vllama/a.yaml",
            config=(
                ("allowed_media_domains", ("a.example",)),
                ("async_scheduling", False),
                ("enable-sleep-mode", False),
                ("enable_prefix_caching", False),
                ("kv_cache_memory_bytes", 1 << 30),
            ),
        ),
        start=replace(START, kv_cache_bytes=4 * GIB),
    ),
    "learned-kv-cache": command(start=replace(START, kv_cache_bytes=4 * GIB)),
    "own-kv-cache": command(
        LaunchSpec(extra_args=(("kv-cache-memory-bytes", "2G"),)), start=replace(START, kv_cache_bytes=4 * GIB)
    ),
    "cpu": command(
        start=replace(START, gpu_memory_utilization=0.12, kv_cache_bytes=GIB), platform=Platform.CPU
    ),
    "cpu-sleep-mode-asked": command(
        LaunchSpec(extra_args=(("enable-sleep-mode", True),)), platform=Platform.CPU
    ),
    "sleep-mode-declined": command(LaunchSpec(extra_args=(("enable-sleep-mode", False),))),
    "local-path": command(LaunchSpec(path="/models/my-finetune")),
    "extra-args": command(
        LaunchSpec(
            settings=(("max_model_len", "auto"),),
            extra_args=(
                ("max-num-seqs", 256),
                ("--enable_expert_parallel", True),
                ("async-scheduling", False),
                ("disable-log-stats", False),
                ("disable-uvicorn-access-log", False),
                ("cudagraph-capture-sizes", (1, 2, 4)),
                ("allowed-origins", ("https://a.example", "https://b.example")),
                ("middleware", ("pkg.one", "pkg.two")),
                ("sleep-preserve-parameter-names", ()),
                ("seed", -1),
                ("speculative-config.num_speculative_tokens", 3),
            ),
        )
    ),
    "lora": command(
        LaunchSpec(
            settings=(("enable_lora", True), ("lora_modules", ("sql=/adapters/sql", "chat=/adapters/chat"))),
            extra_args=(("max-lora-rank", 64),),
        )
    ),
    "media-from-two-hosts": command(
        LaunchSpec(settings=(("allowed_media_domains", ("images.example.org", "10.0.0.7")),))
    ),
    "media-from-anywhere": command(LaunchSpec(settings=(("allowed_media_domains", "any"),))),
    "media-declined": command(LaunchSpec(settings=(("allowed_media_domains", "none"),))),
    "own-environment": command(
        LaunchSpec(
            env=(
                ("CUDA_VISIBLE_DEVICES", "5"),
                ("HF_TOKEN", "hf_mine"),
                ("VLLAMA_ENGINE_ID", "forged"),
                ("VLLM_CACHE_ROOT", "/fast/cache"),
                ("VLLM_MEDIA_URL_ALLOW_REDIRECTS", "1"),
            )
        )
    ),
    "parents-caches": command(
        parent={"VLLAMA_TRANSFORMERS_CACHE": "/data/hub", "VLLM_CACHE_ROOT": "/data/vllm", "PATH": "/bin"}
    ),
}  # fmt: skip


def as_text(made: EngineCommand) -> str:
    return "\n".join((*made.argv, "", *(f"{name}={value}" for name, value in made.env), ""))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_golden(situation: str) -> None:
    file = GOLDEN / f"{situation}.txt"
    text = as_text(SITUATIONS[situation])
    if WRITE:
        file.write_text(text)
    assert file.read_text() == text


def test_every_golden_file_has_its_situation() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} == SITUATIONS.keys()


@given(st.floats(min_value=0.0001, max_value=1.0))
def test_utilization_is_never_rounded_up(utilization: float) -> None:
    made = command(start=replace(START, gpu_memory_utilization=utilization))
    told = Fraction(made.argv[made.argv.index("--gpu-memory-utilization") + 1])
    assert 0 < told <= Fraction(repr(utilization))
    assert Fraction(repr(utilization)) - told < Fraction(1, 10_000)


@given(st.dictionaries(st.text(st.characters(categories=["Lu", "Nd"]) | st.just("_"), min_size=1), st.text()))
def test_the_models_environment_never_moves_it_to_another_gpu(env: dict[str, str]) -> None:
    made = dict(command(LaunchSpec(env=tuple((env | {"CUDA_VISIBLE_DEVICES": "9"}).items()))).env)
    assert made["CUDA_VISIBLE_DEVICES"] == "0"
    assert made["VLLAMA_ENGINE_ID"] == "e1"


def test_an_engine_with_a_door_listens_on_its_nodes_address_and_its_own_middleware_comes_last() -> None:
    made = serve_command(
        spec=replace(PLAIN, launch=LaunchSpec(extra_args=(("middleware", ("pkg.one",)),), env=(("PYTHONPATH", "/m"),))),
        action=START, port=33300, executable=("vllm",), platform=Platform.CUDA, cache_root=Path("/c"),
        parent_env=PARENT, tag={}, door=Door(host="10.0.0.2", key="k" * 43),
    )  # fmt: skip
    env = dict(made.env)
    assert made.argv[made.argv.index("--host") + 1] == "10.0.0.2"
    assert made.argv[-4:] == ("--middleware", "pkg.one", "--middleware", "vllama_door.Door")
    assert env["VLLAMA_ENGINE_KEY"] == "k" * 43
    assert env["PYTHONPATH"].endswith("/door/on_path:/m")
    assert not any("k" * 43 in argument for argument in made.argv)
    assert dict(shown(made, {}).env)["VLLAMA_ENGINE_KEY"] == HIDDEN


def test_without_one_there_is_no_key() -> None:
    assert "VLLAMA_ENGINE_KEY" not in dict(command(parent=PARENT | {"VLLAMA_ENGINE_KEY": "somebody's"}).env)


RANKS = [
    Rank(index=index, count=2, devices=4, master_address="10.0.0.1", master_port=33400) for index in range(2)
]  # fmt: skip


def a_rank(index: int) -> EngineCommand:
    return serve_command(
        spec=PLAIN, action=replace(START, node="b", devices=(2, 3)), port=33300, executable=("vllm",),
        platform=Platform.CUDA, cache_root=Path("/cache"), parent_env={}, tag={},
        door=Door(host=f"10.0.0.{index + 1}", key="k" * 43), rank=RANKS[index],
    )  # fmt: skip


def test_an_engine_that_spans_nodes_counts_all_devices_and_sees_its_own() -> None:
    for index in range(2):
        argv, env = a_rank(index).argv, dict(a_rank(index).env)
        said = {argv[i]: argv[i + 1] for i in range(len(argv) - 1) if argv[i].startswith("--")}
        assert said["--distributed-executor-backend"] == "mp"
        assert (said["--nnodes"], said["--node-rank"]) == ("2", str(index))
        assert (said["--master-addr"], said["--master-port"]) == ("10.0.0.1", "33400")
        assert said["--tensor-parallel-size"] == "4"
        assert (env["CUDA_VISIBLE_DEVICES"], env["VLLM_HOST_IP"]) == ("2,3", f"10.0.0.{index + 1}")


def test_only_rank_0_answers_requests() -> None:
    assert "--headless" not in a_rank(0).argv
    assert "--headless" in a_rank(1).argv


def test_what_a_model_says_of_parallelism_goes_before_one_engine_across_all_devices() -> None:
    spec = replace(PLAIN, launch=LaunchSpec(settings=(("tensor_parallel_size", 2), ("pipeline_parallel_size", 2))))
    argv = serve_command(
        spec=spec, action=START, port=1, executable=("vllm",), platform=Platform.CUDA, cache_root=Path("/cache"),
        parent_env={}, tag={}, rank=RANKS[1],
    ).argv  # fmt: skip
    assert argv[argv.index("--tensor-parallel-size") + 1] == "2"
    assert argv[argv.index("--pipeline-parallel-size") + 1] == "2"
    assert argv.count("--tensor-parallel-size") == 1
