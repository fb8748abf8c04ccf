"""The tag of an engine: one environment variable that all its processes inherit, and that survives its manager."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

VARIABLE = "VLLAMA_ENGINE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`owner` says whose engine it is: a hash of the configuration directory and the user.

    `replica`: which of its model's engines; tags of before there were several do not say. It answers at `host` to who
    shows `key`; None: to everybody there. Of an engine that spans nodes this is part `rank` of `ranks`.
    """

    owner: str
    engine_id: str
    model: str
    spec_hash: str
    node: str
    devices: tuple[int, ...]
    memory_bytes: int
    port: int
    log: str
    log_offset: int
    replica: int = 1
    host: str = "127.0.0.1"
    key: str | None = field(default=None, repr=False)
    rank: int = 0
    ranks: int = 1

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))


def decode(text: str) -> Identity | None:
    """None for what is not a tag of ours, or of a version that wrote it otherwise."""
    try:
        fields = json.loads(text)
        return Identity(**{**fields, "devices": tuple(int(device) for device in fields["devices"])})
    except (ValueError, TypeError, KeyError):
        return None


def owner_of(config_dir: Path) -> str:
    """16 hex digits. Managers with different directories, or of different users, leave each other's engines alone."""
    text = f"{os.getuid()}:{config_dir.resolve()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
