"""The log of requests. Lines are put together as requests end, and written a few times a second."""

import asyncio
from collections.abc import Callable

from vllama.domain.units import MIB
from vllama.gateway.access.line import Line, Lines
from vllama.gateway.access.outlet import Outlet
from vllama.gateway.metrics.finished import Finished

EVERY_S = 0.2
MOST_BYTES = 4 * MIB  # kept where nobody reads
_LAST_WAIT_S = 1.0


class AccessLog:
    """All of it on the event loop that it was made on, but the writing."""

    def __init__(
        self, outlet: Outlet, render: Callable[[Line], bytes], lines: Lines, *,
        every_s: float = EVERY_S, most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        self._outlet, self._render, self.lines = outlet, render, lines
        self._every_s, self._most_bytes = every_s, most_bytes
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._kept = bytearray()
        self.dropped = 0  # lines

    def add(self, one: Finished) -> None:
        self.write(self.lines.of(one))

    def write(self, line: Line) -> None:
        if len(self._kept) >= self._most_bytes:
            self.dropped += 1
            return
        self._kept += self._render(line)
        if self._timer is None:
            self._timer = self._loop.call_later(self._every_s, self._flush)

    def close(self) -> None:
        """Blocks, for a second at most, until all is written."""
        if self._timer is not None:
            self._timer.cancel()
        if self._outlet.wait(_LAST_WAIT_S) and self._kept:
            self._outlet.offer(bytes(self._kept))
            self._outlet.wait(_LAST_WAIT_S)
        self._outlet.close()

    def _flush(self) -> None:
        self._timer = None
        if self._outlet.offer(bytes(self._kept)):
            self._kept.clear()
        else:
            self._timer = self._loop.call_later(self._every_s, self._flush)
