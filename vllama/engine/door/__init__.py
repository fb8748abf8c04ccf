"""How an engine gets its door: the one file of `on_path`, which vLLM finds by PYTHONPATH. See there."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vllama.engine.door.on_path import vllama_door

KEY = vllama_door.KEY
MIDDLEWARE = f"vllama_door.{vllama_door.Door.__name__}"
ON_PATH = Path(vllama_door.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An engine that listens on `host`, an address of its node, and serves who shows `key`."""

    host: str
    key: str = field(repr=False)

    @property
    def flags(self) -> tuple[str, ...]:
        """To stand last: the last middleware is the first to be asked."""
        return ("--middleware", MIDDLEWARE)

    def environment(self, parent: Mapping[str, str]) -> dict[str, str]:
        """What of the engine's environment is due to its door. The key is in no command line, which everybody reads."""
        before = parent.get("PYTHONPATH")
        path = str(ON_PATH) if not before else f"{ON_PATH}{os.pathsep}{before}"
        return {"PYTHONPATH": path, KEY: self.key}


def new_key() -> str:
    """256 bits, in 43 characters."""
    return secrets.token_urlsafe(32)
