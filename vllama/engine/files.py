"""The files of a model directory: its config and its weights. Never raises on odd ones. Blocks on the file system."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.domain.units import MIB

_JSON_LIMIT_BYTES = 64 * MIB  # the index of the largest models has some MiB
_FORMATS = (("*.safetensors", "model.safetensors.index.json"), ("*.bin", "pytorch_model.bin.index.json"))
_NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "scheduler.bin", "rng_state.bin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFiles:
    """What vLLM would load: file name -> bytes; and the names that an index speaks of and are not there."""

    present: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def total_bytes(self) -> int:
        return sum(self.present.values())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None: not there, not readable, or not an object."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_JSON_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def weight_files(directory: Path) -> WeightFiles:
    """As vLLM prefers them, safetensors before bin; what an index names, else all of the kind."""
    for pattern, index_name in _FORMATS:
        index = read_json(directory / index_name)
        names = _indexed(index) if index is not None else _found(directory, pattern)
        if names:
            sizes = {name: _size(directory / name) for name in names}
            return WeightFiles(
                present={name: size for name, size in sizes.items() if size is not None},
                missing=tuple(name for name, size in sizes.items() if size is None),
            )
    return WeightFiles(present={}, missing=())


def _indexed(index: Mapping[str, Any]) -> list[str]:
    weight_map = index.get("weight_map")
    names = weight_map.values() if isinstance(weight_map, dict) else ()
    return sorted({name for name in names if isinstance(name, str) and name})


def _found(directory: Path, pattern: str) -> list[str]:
    try:
        names = sorted(path.name for path in directory.glob(pattern) if path.name not in _NOT_WEIGHTS)
    except (OSError, ValueError):
        return []
    # Some models come twice: as shards, and as one file in their maker's own layout.
    return [name for name in names if not name.startswith("consolidated")] or names


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None
