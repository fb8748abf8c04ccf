"""What a model will take before it ever ran: from its config and the sizes of its weights."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.domain.observed import Footprint
from vllama.domain.spec import DEFAULT_RESIDUE_BYTES, DEFAULT_RESIDUE_PARALLEL_BYTES, ModelSpec, Setting, SleepLevel
from vllama.domain.units import GIB, KIB
from vllama.engine.files import WeightFiles, read_json, weight_files
from vllama.engine.flags import flag_name
from vllama.engine.platform import Platform
from vllama.engine.tensors import Tensor, held_bytes, tensors_of

# Beside weights and KV cache, per device. CUDA: context, activations, graphs. CPU: three Python processes, measured.
ASSUMED_OVERHEAD_BYTES = {Platform.CUDA: 2 * GIB, Platform.CPU: 13 * GIB // 10}
ASSUMED_KV_BYTES_PER_TOKEN = 128 * KIB  # an 8B model with grouped queries; where the config does not tell
MIN_KV_TOKENS = 65_536
_KV_ELEMENT_BYTES = 2  # vLLM runs float32 checkpoints in half precision too
_QUANTISED = ("quantization_config", "compression_config")
# Level 2 reads the weights again, and what is said here comes back wrong or not at all: scales are reset,
# adapters and draft weights are not read (vllm#28606, #39934, #52479, #45617).
_LOST_AT_LEVEL_2 = (
    "quantization", "enable-lora", "lora-modules", "speculative-config", "spec-model", "calculate-kv-scales",
    "kv-cache-dtype",
)  # fmt: skip
_FATAL_AT_LEVEL_1 = (
    "kv-offloading-backend",
    "kv-offloading-size",
)  # the engine dies after its first sleep (vllm#45268)
_ENCODERS = ("bert", "roberta", "mpnet", "electra")  # in model_type: no KV cache


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsEstimate:
    """Of the whole model, however many devices share it. None: the config does not tell."""

    weights_bytes: int
    kv_bytes_per_token: int | None
    max_len: int | None
    quantised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoEstimate:
    """`reason` is for a person."""

    reason: str


def estimate(directory: Path, *, dtype: str = "auto") -> WeightsEstimate | NoEstimate:
    """Reads config.json and the headers of the weight files (the sizes of those that have none).

    `dtype` as vLLM's own setting. Never raises. Blocks on the file system.
    """
    config = read_json(directory / "config.json")
    if config is None:
        return NoEstimate(reason=f"{directory}: no config.json that can be read")
    weights = weight_files(directory)
    if weights.missing:
        return NoEstimate(reason=f"{directory}: {len(weights.missing)} weight files are missing: {weights.missing[0]}")
    if not weights.total_bytes:
        return NoEstimate(reason=f"{directory}: no weights in *.safetensors or *.bin")
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    return WeightsEstimate(
        weights_bytes=_held_bytes(directory, weights, config, dtype),
        kv_bytes_per_token=_kv_bytes_per_token(text),
        max_len=_number(text, "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"),
        quantised=any(part.get(key) for part in (config, text) for key in _QUANTISED),
    )


def _held_bytes(directory: Path, weights: WeightFiles, config: Mapping[str, Any], dtype: str) -> int:
    found: list[Tensor] = []
    for name in weights.present:
        tensors = tensors_of(directory / name)
        if tensors is None:  # .bin, or odd: it takes what its files take
            return weights.total_bytes
        found += tensors
    return held_bytes(tuple(found), config, dtype)


def footprint_of(spec: ModelSpec, sizes: WeightsEstimate | None, *, platform: Platform = Platform.CUDA) -> Footprint:
    """What to plan with until the engine has told: `memory`, else weights, overhead and a KV cache for one full-length
    request or MIN_KV_TOKENS, whichever is more. `sizes` None: not known, and then only what is declared counts.

    Weights and KV cache are shared by the model's devices; what is declared is per device. `Footprint.fixed_bytes` is
    set on the CPU only, where vLLM would otherwise take all it may use for its KV cache; on a GPU it is learned.
    """
    weights = sizes.weights_bytes if sizes else 0
    base = _shared(weights, spec) + ASSUMED_OVERHEAD_BYTES[platform]
    cache = _kv_cache_bytes(spec, sizes) if spec.memory_bytes is None else None
    awake = base + cache if cache is not None else spec.memory_bytes or 0
    residue = DEFAULT_RESIDUE_BYTES if spec.device_count == 1 else DEFAULT_RESIDUE_PARALLEL_BYTES
    on_cpu = platform is Platform.CPU  # sleep frees nothing there
    return Footprint(
        awake_bytes=awake,
        asleep_bytes=awake if on_cpu else min(residue, awake),
        weights_bytes=weights,
        fixed_bytes=base if on_cpu else None,
        cache_bytes=cache,
        discardable=sizes is not None and not sizes.quantised and not _said_any(spec, _LOST_AT_LEVEL_2),
        refused_levels=frozenset({SleepLevel.WEIGHTS_OFFLOADED} if _said_any(spec, _FATAL_AT_LEVEL_1) else ()),
    )


def _said_any(spec: ModelSpec, flags: Collection[str]) -> bool:
    """Any of these flags is said, and not to say no."""
    return any(_said(spec, flag) not in {None, False, "auto", "none"} for flag in flags)


def _kv_cache_bytes(spec: ModelSpec, sizes: WeightsEstimate | None) -> int:
    """Per device."""
    per_token, max_len = (sizes.kv_bytes_per_token, sizes.max_len) if sizes else (None, None)
    declared = _count(_said(spec, "kv-cache-memory-bytes"))
    if declared is not None:
        return declared
    if per_token is None:
        per_token = ASSUMED_KV_BYTES_PER_TOKEN
    if str(_said(spec, "kv-cache-dtype") or "").startswith("fp8"):
        per_token //= 2
    elif _said(spec, "dtype") in {"float32", "float"}:
        per_token *= 2
    longest = _count(_said(spec, "max-model-len")) or max_len or 0
    return _shared(per_token * max(longest, MIN_KV_TOKENS), spec)


def _shared(total: int, spec: ModelSpec) -> int:
    return -(-total // max(1, spec.device_count))


def _said(spec: ModelSpec, flag: str) -> Setting | None:
    """What the model's settings or, after them, its extra_args say."""
    said = {flag_name(name): value for name, value in spec.launch.said}
    return said.get(flag)


def _count(value: Setting | None) -> int | None:
    """A number as vLLM reads it: 32768, `32k` (thousands), `32K` (1024s). None: `auto`, -1, or nothing."""
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)([kKmMgGtT]?)", str(value))
    if match is None:
        return None
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1000 if match[2].islower() else 1024) ** power)


def _kv_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    if any(name in str(config.get("model_type")) for name in _ENCODERS):
        return 0
    layers = _attention_layers(config)
    heads = _number(config, "num_attention_heads", "n_head")
    latent, rope = _number(config, "kv_lora_rank"), _number(config, "qk_rope_head_dim")
    if layers is not None and latent is not None:  # keys and values in one latent vector
        return layers * (latent + (rope or 0)) * _KV_ELEMENT_BYTES
    hidden = _number(config, "hidden_size", "n_embd")
    size = _number(config, "head_dim") or (hidden // heads if hidden and heads else None)
    kv_heads = _number(config, "num_key_value_heads") or heads
    if layers is None or kv_heads is None or size is None:
        return None
    return 2 * layers * kv_heads * size * _KV_ELEMENT_BYTES


def _attention_layers(config: Mapping[str, Any]) -> int | None:
    """Linear attention and state space layers keep nothing per token."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and kinds:
        return sum("attention" in str(kind) and "linear" not in str(kind) for kind in kinds)
    return _number(config, "num_hidden_layers", "n_layer", "num_layers")


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    """The first of these keys that holds a number one can believe."""
    values = (config.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 < v < 1 << 40), None)
