"""The files of a model directory: its config and its weights. Never raises on odd ones. Blocks on the file system."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.domain.units import MIB

_JSON_LIMIT_BYTES = 64 * MIB  # the index of the largest models has some MiB
_FORMATS = (("*.safetensors", "model.safetensors.index.json"), ("*.bin", "pytorch_model.bin.index.json"))
NOT_WEIGHTS = frozenset({"training_args.bin", "optimizer.bin", "scheduler.bin", "rng_state.bin"})
_SHARD = re.compile(r"(.+)-(\d{2,6})-of-(\d{2,6})(\.\w+)")
_MOST_SHARDS = 10_000  # a name may say any number
_POINTER_BYTES = 1024  # less than any file of weights has
_POINTER = b"version https://git-lfs"


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
    value = _read(path)
    return value if isinstance(value, dict) else None


def read_list(path: Path) -> list[Any]:
    """The list in a JSON file; empty: not there, not readable, or not a list."""
    value = _read(path)
    return value if isinstance(value, list) else []


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_JSON_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None


def weight_files(directory: Path) -> WeightFiles:
    """As vLLM prefers them, safetensors before bin; what an index names, else all of the kind, whose names tell how
    many there should be. A pointer of Git LFS is a missing file.
    """
    for pattern, index_name in _FORMATS:
        index = read_json(directory / index_name)
        names = _indexed(index) if index is not None else _with_siblings(_found(directory, pattern))
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


def _with_siblings(names: Iterable[str]) -> list[str]:
    """`model-00001-of-00003.safetensors` says that there are two more."""
    found = dict.fromkeys(names)
    for name in list(found):
        if (shard := _SHARD.fullmatch(name)) is not None and int(shard[3]) <= _MOST_SHARDS:
            stem, digits, ending = shard[1], len(shard[2]), shard[4]
            first = 0 if f"{stem}-{0:0{digits}}-of-{shard[3]}{ending}" in found else 1
            numbers = range(first, first + int(shard[3]))
            found |= dict.fromkeys(f"{stem}-{number:0{digits}}-of-{shard[3]}{ending}" for number in numbers)
    return sorted(found)


def _found(directory: Path, pattern: str) -> list[str]:
    try:
        names = sorted(path.name for path in directory.glob(pattern) if path.name not in NOT_WEIGHTS)
    except (OSError, ValueError):
        return []
    # Some models come twice: as shards, and as one file in their maker's own layout.
    return [name for name in names if not name.startswith("consolidated")] or names


def _size(path: Path) -> int | None:
    try:
        if not path.is_file():
            return None
        size = path.stat().st_size
        return None if size < _POINTER_BYTES and path.read_bytes().startswith(_POINTER) else size
    except (OSError, ValueError):
        return None
