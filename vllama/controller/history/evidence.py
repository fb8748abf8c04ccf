"""Evidence while it is remembered: as it came at first, then packed, as there may be ten of every model."""

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from vllama.controller.history.codec import evidence_from, evidence_json
from vllama.planner.evidence import Evidence


class Kept:
    """Several decisions share one. Give it what was read from a file, or what was just found."""

    def __init__(self, found: Evidence | Mapping[str, Any]) -> None:
        self._loose: Evidence | None = found if isinstance(found, Evidence) else None
        self._packed = b"" if isinstance(found, Evidence) else _pack(found)

    def json(self) -> dict[str, Any]:
        """As `evidence_json` has it. From now on it is packed: best called in a thread the first time."""
        loose = self._loose
        if loose is None:
            said: dict[str, Any] = msgspec.json.decode(zlib.decompress(self._packed))
            return said
        said = evidence_json(loose)
        self._packed = _pack(said)
        self._loose = None
        return said

    def evidence(self) -> Evidence | None:
        """None: another version kept it, and this one does not understand it."""
        if (loose := self._loose) is not None:
            return loose
        try:
            return evidence_from(self.json())
        except ValueError:
            return None


def _pack(said: Mapping[str, Any]) -> bytes:
    return zlib.compress(msgspec.json.encode(said), 1)
