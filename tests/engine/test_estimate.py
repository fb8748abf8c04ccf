import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.domain.spec import LaunchSpec, ModelSpec, Setting, SleepLevel
from vllama.domain.units import GIB
from vllama.engine.estimate import (
    ASSUMED_KV_BYTES_PER_TOKEN,
    ASSUMED_OVERHEAD_BYTES,
    MIN_KV_TOKENS,
    NoEstimate,
    WeightsEstimate,
    estimate,
    footprint_of,
)
from vllama.engine.platform import Platform

QWEN3_0_6B = {
    "model_type": "qwen3",
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 1024,
    "max_position_embeddings": 40960,
}
KV = 2 * 28 * 8 * 128 * 2


def model(directory: Path, config: Any, **sizes: int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    for name, size in sizes.items():
        (directory / name.replace("__", ".")).write_bytes(b"x" * size)
    return directory


def test_weights_are_the_files_and_kv_is_the_shape(tmp_path: Path) -> None:
    directory = model(tmp_path, QWEN3_0_6B, model__safetensors=1000, tokenizer__json=7, pytorch_model__bin=5000)
    assert estimate(directory) == WeightsEstimate(weights_bytes=1000, kv_bytes_per_token=KV, max_len=40960)


def test_bin_counts_where_there_are_no_safetensors(tmp_path: Path) -> None:
    directory = model(tmp_path, QWEN3_0_6B, pytorch_model__bin=5000, training_args__bin=9, optimizer__bin=900)
    assert _estimated(directory).weights_bytes == 5000


def test_weights_that_come_twice_count_once(tmp_path: Path) -> None:
    directory = model(tmp_path, QWEN3_0_6B, a__safetensors=10, b__safetensors=20, consolidated__safetensors=30)
    assert _estimated(directory).weights_bytes == 30
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    assert _estimated(directory).weights_bytes == 10


def test_a_shard_that_is_missing_is_no_estimate(tmp_path: Path) -> None:
    directory = model(tmp_path, QWEN3_0_6B, a__safetensors=10)
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    answer = estimate(directory)
    assert isinstance(answer, NoEstimate)
    assert "b.safetensors" in answer.reason


@pytest.mark.parametrize(
    ("config", "kv"),
    [
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}, 2 * 2 * 4 * 16 * 2),
        ({"n_layer": 12, "n_head": 12, "n_embd": 768}, 2 * 12 * 12 * 64 * 2),
        ({"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, 61 * 576 * 2),
        (QWEN3_0_6B | {"layer_types": ["linear_attention", "full_attention"]}, KV // 28),
        ({"text_config": QWEN3_0_6B, "num_hidden_layers": 99}, KV),
        ({"model_type": "xlm-roberta", "num_hidden_layers": 12}, 0),
        ({"model_type": "qwen3"}, None),
        ({"num_hidden_layers": True, "num_attention_heads": -4, "hidden_size": "x"}, None),
    ],
)
def test_kv_bytes_per_token(tmp_path: Path, config: dict[str, Any], kv: int | None) -> None:
    assert _estimated(model(tmp_path, config, m__safetensors=1)).kv_bytes_per_token == kv


def _estimated(directory: Path) -> WeightsEstimate:
    answer = estimate(directory)
    assert isinstance(answer, WeightsEstimate)
    return answer


@pytest.mark.parametrize("config", [b"", b"[1]", b"\xff\x00", b"[" * 100_000, b'{"a": 1' + b"0" * 9999 + b"}"])
def test_a_config_that_cannot_be_read_is_no_estimate(tmp_path: Path, config: bytes) -> None:
    directory = model(tmp_path, {}, m__safetensors=1)
    (directory / "config.json").write_bytes(config)
    assert isinstance(estimate(directory), NoEstimate)


def test_no_files_are_no_estimate(tmp_path: Path) -> None:
    assert isinstance(estimate(tmp_path / "absent"), NoEstimate)
    assert isinstance(estimate(model(tmp_path, QWEN3_0_6B)), NoEstimate)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
_KEYS = st.sampled_from([*QWEN3_0_6B, "text_config", "layer_types", "kv_lora_rank", "n_head"])


@given(st.dictionaries(_KEYS, _VALUES))
def test_any_config_is_answered(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    estimate(model(tmp_path_factory.mktemp("model"), config, m__safetensors=1))


SPEC = ModelSpec(model="m")
CUDA, CPU = (ASSUMED_OVERHEAD_BYTES[platform] for platform in (Platform.CUDA, Platform.CPU))


def spec(*settings: tuple[str, Setting], **changes: Any) -> ModelSpec:
    return replace(SPEC, launch=LaunchSpec(settings=settings), **changes)


def sizes(weights_bytes: int, kv_bytes_per_token: int | None, max_len: int | None, **changes: Any) -> WeightsEstimate:
    return WeightsEstimate(
        weights_bytes=weights_bytes, kv_bytes_per_token=kv_bytes_per_token, max_len=max_len, **changes
    )  # fmt: skip


@pytest.mark.parametrize(
    ("of", "max_len", "tokens"),
    [
        (spec(), 40960, MIN_KV_TOKENS),
        (spec(), 131072, 131072),
        (spec(), None, MIN_KV_TOKENS),
        (spec(("max_model_len", 100_000)), 262144, 100_000),
        (spec(("max_model_len", "128K")), 40960, 131072),
        (spec(("max_model_len", "100k")), 40960, 100_000),
        (spec(("max_model_len", "auto")), 262144, 262144),
        (spec(("max_model_len", -1)), 262144, 262144),
    ],
)
def test_auto_holds_one_full_request_or_the_minimum(of: ModelSpec, max_len: int | None, tokens: int) -> None:
    footprint = footprint_of(of, sizes(8 * GIB, 1000, max_len))
    assert footprint.awake_bytes == 8 * GIB + CUDA + 1000 * tokens
    assert footprint.weights_bytes == 8 * GIB
    assert footprint.cache_bytes == 1000 * tokens
    assert footprint.fixed_bytes is None


def test_devices_share_weights_and_kv_but_each_has_the_overhead() -> None:
    footprint = footprint_of(spec(device_count=4), sizes(8 * GIB, 4000, None))
    assert footprint.awake_bytes == 2 * GIB + CUDA + 1000 * MIN_KV_TOKENS
    assert footprint.weights_bytes == 8 * GIB
    assert footprint.asleep_bytes > footprint_of(spec(), sizes(8 * GIB, 4000, None)).asleep_bytes


def test_what_is_declared_is_per_device_and_never_divided() -> None:
    declared = footprint_of(spec(device_count=4, memory_bytes=5 * GIB), sizes(GIB, 1, None))
    assert (declared.awake_bytes, declared.cache_bytes) == (5 * GIB, None)
    unseen = footprint_of(spec(memory_bytes=5 * GIB), None)
    assert (unseen.awake_bytes, unseen.weights_bytes, unseen.discardable) == (5 * GIB, 0, False)


@pytest.mark.parametrize(
    ("settings", "changes", "discardable"),
    [
        ((), {}, True),
        ((), {"quantised": True}, False),
        ((("quantization", "fp8"),), {}, False),
        ((("quantization", "none"), ("kv_cache_dtype", "auto")), {}, True),
        ((("enable_lora", True),), {}, False),
        ((("enable_lora", False),), {}, True),
        ((("speculative_config", '{"model": "x"}'),), {}, False),
        ((("kv_cache_dtype", "fp8"),), {}, False),
    ],
)
def test_what_comes_back_wrong_from_level_2_is_not_discarded(
    settings: tuple[tuple[str, Setting], ...], changes: dict[str, Any], discardable: bool
) -> None:
    assert footprint_of(spec(*settings), sizes(GIB, 1, None, **changes)).discardable is discardable


def test_a_quantised_checkpoint_is_seen_as_one(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq"}}
    found = estimate(model(tmp_path, QWEN3_0_6B | config, model__safetensors=10))
    assert isinstance(found, WeightsEstimate)
    assert found.quantised


def test_an_engine_that_dies_of_level_1_never_sleeps_so() -> None:
    offloads = spec(("kv_offloading_size", 16))
    assert footprint_of(offloads, sizes(GIB, 1, None)).refused_levels == {SleepLevel.WEIGHTS_OFFLOADED}
    assert not footprint_of(spec(), sizes(GIB, 1, None)).refused_levels


@pytest.mark.parametrize(
    ("setting", "per_token"),
    [(("kv_cache_dtype", "fp8_e4m3"), 500), (("dtype", "float32"), 2000), (("dtype", "bfloat16"), 1000)],
)
def test_the_kv_cache_is_as_wide_as_its_type(setting: tuple[str, Setting], per_token: int) -> None:
    assert footprint_of(spec(setting), sizes(0, 1000, None)).awake_bytes == CUDA + per_token * MIN_KV_TOKENS


def test_a_declared_kv_cache_is_taken_as_it_is() -> None:
    assert footprint_of(spec(("kv_cache_memory_bytes", "2G")), sizes(0, 1000, None)).awake_bytes == CUDA + 2 * GIB
    extra = replace(SPEC, launch=LaunchSpec(extra_args=(("--kv_cache_memory_bytes", 7),)))
    assert footprint_of(extra, sizes(0, 1000, None)).awake_bytes == CUDA + 7


def test_an_unknown_shape_is_assumed() -> None:
    expected = CUDA + ASSUMED_KV_BYTES_PER_TOKEN * MIN_KV_TOKENS
    assert footprint_of(spec(), sizes(0, None, None)).awake_bytes == expected


def test_on_the_cpu_sleep_frees_nothing_and_the_kv_cache_is_told() -> None:
    footprint = footprint_of(spec(), sizes(GIB, 1000, None), platform=Platform.CPU)
    assert footprint.asleep_bytes == footprint.awake_bytes == GIB + CPU + 1000 * MIN_KV_TOKENS
    assert footprint.fixed_bytes == GIB + CPU
