"""What weights take once vLLM holds them, from the headers of safetensors files: types, copies that are tied.

A safetensors file begins with 8 bytes that say how long its JSON header is; the header has every tensor's type,
shape and place. Never raises on odd files. Blocks on the file system.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.domain.units import MIB

_HEADER_LIMIT_BYTES = 100 * MIB  # the format's own limit
_FULL = {"F32": 4, "F64": 8}  # bytes each
_HALVED_BY = {"auto", "half", "float16", "bfloat16"}  # vLLM takes float32 checkpoints to half precision unless told


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    name: str
    dtype: str
    size_bytes: int


def tensors_of(path: Path) -> tuple[Tensor, ...] | None:
    """None: not a safetensors file that can be read."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _HEADER_LIMIT_BYTES:
                return None
            header = json.loads(file.read(length))
    except (OSError, ValueError, struct.error, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    found = (_tensor(name, entry) for name, entry in header.items() if name != "__metadata__")
    tensors = tuple(found)
    return None if any(tensor is None for tensor in tensors) else tuple(t for t in tensors if t is not None)


def _tensor(name: str, entry: Any) -> Tensor | None:
    match entry:
        case {"dtype": str(dtype), "data_offsets": [int(begin), int(end)]} if 0 <= begin <= end:
            return Tensor(name=name, dtype=dtype, size_bytes=end - begin)
    return None


def held_bytes(tensors: tuple[Tensor, ...], config: Mapping[str, Any], dtype: str) -> int:
    """What `tensors` take on the devices. `dtype` as vLLM's own setting.

    Full-precision tensors are halved as vLLM does; an output layer that is tied to the embeddings is held once
    though some files have it twice. Quantised weights (packed integers, 8-bit floats) and their scales stay.
    """
    halve = dtype in _HALVED_BY
    tied = bool(config.get("tie_word_embeddings")) and any("embed_tokens.weight" in tensor.name for tensor in tensors)
    return sum(
        _as_held(tensor, halve=halve) for tensor in tensors if not (tied and tensor.name.endswith("lm_head.weight"))
    )


def _as_held(tensor: Tensor, *, halve: bool) -> int:
    if halve and tensor.dtype in _FULL:
        return tensor.size_bytes * 2 // _FULL[tensor.dtype]
    return tensor.size_bytes
