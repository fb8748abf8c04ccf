"""Settings for a model that is on disk, sized by its files for the devices that are here: for `vllama init`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from vllama.domain.observed import Device
from vllama.domain.spec import ModelSpec
from vllama.domain.units import GIB, format_bytes
from vllama.engine.estimate import ASSUMED_KV_BYTES_PER_TOKEN, WeightsEstimate, footprint_of
from vllama.engine.platform import Platform

MOST_OF_A_DEVICE = 0.85
GOOD_TOKENS, FEWEST_TOKENS = 32_768, 2_048  # less context than this is worth another device, or no start at all
_STEP_BYTES = GIB // 2
_STEP_TOKENS = 1024
_COUNTS = (1, 2, 4, 8, 16)  # vLLM divides attention heads evenly


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """`memory_bytes` per device; None: it does not fit here. `max_model_len` only where the model's own is too long.
    `why` is for people.
    """

    memory_bytes: int | None
    device_count: int = 1
    max_model_len: int | None = None
    why: str


def suggest(sizes: WeightsEstimate, devices: Sequence[Device], platform: Platform) -> Suggestion:
    """On as few devices as hold it with its whole context, or with a good part of it; else with what there is."""
    totals = sorted((device.total_bytes for device in devices), reverse=True)
    longest: Suggestion | None = None
    for count in (count for count in _COUNTS if count <= len(totals)):
        found = _on(count, int(totals[count - 1] * MOST_OF_A_DEVICE), sizes, platform)
        if found is None:
            continue
        if found.max_model_len is None or found.max_model_len >= GOOD_TOKENS:
            return found
        longest = found
    if longest is not None:
        return longest
    most = format_bytes(sum(totals)) if len(totals) > 1 else format_bytes(totals[0]) if totals else "no memory"
    why = f"does not fit: its weights alone take {format_bytes(sizes.weights_bytes)}, and here are {most}"
    return Suggestion(memory_bytes=None, why=why)


def _on(count: int, limit: int, sizes: WeightsEstimate, platform: Platform) -> Suggestion | None:
    """None: it does not fit on so many."""
    footprint = footprint_of(ModelSpec(model="", device_count=count), sizes, platform=platform)
    cache = footprint.cache_bytes or 0
    base = footprint.awake_bytes - cache
    each = " of each" if count > 1 else ""
    weights = f"estimated: {format_bytes(base)}{each} without its KV cache"
    if footprint.awake_bytes <= limit:
        return Suggestion(memory_bytes=_rounded(footprint.awake_bytes, limit), device_count=count, why=weights)
    per_token = ASSUMED_KV_BYTES_PER_TOKEN if sizes.kv_bytes_per_token is None else sizes.kv_bytes_per_token
    memory = _rounded(limit, limit)
    tokens = (memory - base) * count // per_token // _STEP_TOKENS * _STEP_TOKENS if per_token else 0
    if tokens < FEWEST_TOKENS:
        return None
    own = sizes.max_len
    shorter = tokens if own is None or tokens < own else None
    return Suggestion(memory_bytes=memory, device_count=count, max_model_len=shorter, why=weights)


def _rounded(memory: int, limit: int) -> int:
    """Up to half a GiB, where that is not past the limit; else down."""
    up = -(-memory // _STEP_BYTES) * _STEP_BYTES
    return up if up <= limit else memory // _STEP_BYTES * _STEP_BYTES or memory
