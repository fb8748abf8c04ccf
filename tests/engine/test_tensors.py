"""Weights as vLLM holds them, from made-up files whose headers have the shapes of real models."""

import json
import struct
from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllama.domain.units import GIB
from vllama.engine.estimate import WeightsEstimate, estimate
from vllama.engine.tensors import tensors_of

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "F8_E4M3": 1, "U8": 1}


def write(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> int:
    """A file with a true header and no data (a hole of the right size); returns the bytes of its tensors."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return at


def model(directory: Path, config: dict, tensors: dict[str, tuple[str, list[int]]]) -> int:
    (directory / "config.json").write_text(json.dumps(config))
    return write(directory / "model.safetensors", tensors)


def weights(directory: Path, **more: str) -> int:
    found = estimate(directory, **more)
    assert isinstance(found, WeightsEstimate)
    return found.weights_bytes


def awq(layers: int, hidden: int, inner: int, heads: int, kv: int) -> dict[str, tuple[str, list[int]]]:
    """4-bit weights packed eight to an int32, a scale and a packed zero point per group of 128."""
    tensors: dict[str, tuple[str, list[int]]] = {
        "model.embed_tokens.weight": ("F16", [152064, hidden]),
        "lm_head.weight": ("F16", [152064, hidden]),
    }
    shapes = {"q": (hidden, heads), "k": (hidden, kv), "v": (hidden, kv), "o": (heads, hidden)}
    shapes |= {"gate": (hidden, inner), "up": (hidden, inner), "down": (inner, hidden)}
    for layer in range(layers):
        for name, (rows, columns) in shapes.items():
            stem = f"model.layers.{layer}.{name}_proj"
            tensors[f"{stem}.qweight"] = ("I32", [rows, columns // 8])
            tensors[f"{stem}.qzeros"] = ("I32", [rows // 128, columns // 8])
            tensors[f"{stem}.scales"] = ("F16", [rows // 128, columns])
    return tensors


def test_a_32b_awq_model_comes_out_at_its_19_gb_not_at_its_parameters_in_half_precision(tmp_path):
    shape = awq(layers=64, hidden=5120, inner=27648, heads=5120, kv=1024)
    model(tmp_path, {"tie_word_embeddings": False, "quantization_config": {"quant_method": "awq", "bits": 4}}, shape)
    assert weights(tmp_path) == pytest.approx(19.3e9, rel=0.10)


def test_a_float32_checkpoint_is_halved_unless_float32_is_asked_for(tmp_path):
    size = model(tmp_path, {}, {"w": ("F32", [1024, 1024]), "scales": ("BF16", [10])})
    assert weights(tmp_path) == (size - 20) // 2 + 20
    assert weights(tmp_path, dtype="float32") == size


def test_a_tied_output_layer_counts_once_though_the_file_has_it_twice(tmp_path):
    tensors = {"model.embed_tokens.weight": ("BF16", [1000, 64]), "lm_head.weight": ("BF16", [1000, 64])}
    size = model(tmp_path, {"tie_word_embeddings": True}, tensors)
    assert weights(tmp_path) == size // 2
    model(tmp_path, {"tie_word_embeddings": False}, tensors)
    assert weights(tmp_path) == size


def test_every_expert_of_a_mixture_counts(tmp_path):
    experts = {f"layers.0.experts.{i}.w": ("BF16", [256, 256]) for i in range(64)}
    assert weights_after(tmp_path, experts) == 64 * 256 * 256 * 2


def weights_after(directory: Path, tensors: dict[str, tuple[str, list[int]]]) -> int:
    model(directory, {"num_experts": 64, "num_experts_per_tok": 8}, tensors)
    return weights(directory)


def test_eight_bit_floats_stay_as_they_are(tmp_path):
    tensors = {"w": ("F8_E4M3", [GIB // 1024, 16]), "w_scale": ("F32", [1])}
    size = model(tmp_path, {}, tensors)
    assert weights(tmp_path) == size - 2  # the one scale is halved, which nobody will notice


@given(st.binary(max_size=200))
def test_no_file_is_too_odd(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("odd") / "x.safetensors"
    path.write_bytes(data)
    assert tensors_of(path) is None or data
