"""Whether what vllama keeps on disk can be kept: a full, read-only or broken disk costs logs and measurements only."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from vllama.controller.condition import Condition
from vllama.controller.events import Events

LOOK_EVERY_S = 10.0
_TRIED_BYTES = 4096


class StateKept:
    """`mended` is called in the event loop when all can be written again that could not be."""

    def __init__(self, *directories: Path, events: Events, mended: Callable[[], None]) -> None:
        self._directories, self._events, self._mended = directories, events, mended
        self._wrong: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        before, self._wrong = self._wrong, await asyncio.to_thread(_what_is_wrong, self._directories)
        if self._wrong is not None and before is None:
            self._events.record("StateNotKept", self._wrong, warning=True)
        elif self._wrong is None and before is not None:
            self._events.record("StateKept", "Logs and measurements can be written again.")
            self._mended()

    def condition(self) -> Condition:
        if self._wrong is not None:
            return Condition(type="StateKept", ok=False, reason="Unwritable", message=self._wrong)
        return Condition(type="StateKept", ok=True, reason="Written", message="Logs and measurements are kept.")


def _what_is_wrong(directories: tuple[Path, ...]) -> str | None:
    for directory in directories:
        try:
            _write(directory)
        except OSError as error:
            return (
                f"Nothing can be written to {directory}: {error.strerror or error}. Models are served all the same, "
                "without logs, and what is measured is forgotten at the end."
            )
    return None


def _write(directory: Path) -> None:
    """As a log line would be. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f".written-by-{os.getpid()}"
    try:
        with path.open("wb", buffering=0) as file:
            file.write(bytes(_TRIED_BYTES))
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
