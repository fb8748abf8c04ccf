"""The keys in force, and the file while it changes. Nothing that happens to the file opens a door that was closed."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.watch import FileWatch
from vllama.gateway.keys.file import NOTHING, read_ring
from vllama.gateway.keys.key import Key, Ring


@dataclass(slots=True, kw_only=True)
class Keyring:
    """`ring` None: nobody needs a key. `error`: what is wrong with the file now."""

    ring: Ring | None = None
    error: str | None = None

    def key(self, digest: bytes | None) -> Key | None:
        return None if self.ring is None or digest is None else self.ring.get(digest)

    def condition(self) -> Condition | None:
        if self.error is not None:
            text = f"{self.error} (the last good version stays in force)"
            return Condition(type="KeysValid", ok=False, reason="Invalid", message=text)
        if self.ring is None:
            return None
        return Condition(type="KeysValid", ok=True, reason="Applied", message="The API keys are in force.")


class KeysWatch:
    def __init__(self, path: Path, *, events: Events, required: bool) -> None:
        """Blocks, for it reads the file. `required`: it must be there. Raises ManifestInvalid."""
        read = partial(read_ring, file=str(path), required=required)
        ring = read(read_content(path))
        self.keyring = Keyring(ring=ring)
        self._events = events
        self._file = FileWatch(
            path, self._changed, read=read, first=ring, says_something=ring is not None, nothing=NOTHING
        )  # fmt: skip

    async def run(self) -> None:
        """Until cancelled."""
        await self._file.run()

    def _changed(self) -> None:
        error, ring = self._file.error, self._file.current
        if error is not None:
            self._events.record("KeysInvalid", str(error), warning=True)
        elif ring is not None:
            names = ", ".join(sorted(key.name for key in ring.values())) or "none, so nobody is let in by one"
            self._events.record("KeysApplied", f"API keys in force: {names}.")
        self.keyring.ring, self.keyring.error = ring, None if error is None else str(error)
