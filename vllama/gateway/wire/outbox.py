"""What is written in one turn of the loop is written at its end, all together, as long as that is more than a little.

A write to a socket of this machine wakes whoever reads there. Among the reads of a busy turn each write would find the
engine, or the client, asleep again, and waking it is what costs. Where turns have little to write there is nothing to
gain, and what is written is written at once; now and then it is tried again.
"""

import asyncio
from collections import deque

import structlog

log = structlog.get_logger("vllama")
LITTLE = 3
WRITTEN = -1


class Outbox:
    """`turn`: counts those at whose end something was to be written. `collects`: what comes now is written then.

    It stays so as long as something waits, so that nothing overtakes it.
    """

    __slots__ = ("_at_once_s", "_due", "_loop", "collects", "turn")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, at_once_s: float) -> None:
        """`at_once_s`: so long writes are at once, where a turn had little."""
        self._loop = loop
        self._due: deque[tuple[asyncio.Transport, bytes]] = deque()
        self._at_once_s = at_once_s
        self.collects = True
        self.turn = 0

    def write(self, wire: asyncio.Transport, data: bytes) -> int:
        """The turn at whose end `data` is written; WRITTEN: it is. Not at all, if `wire` is closed by then."""
        if not self.collects:
            if not wire.is_closing():  # else its protocol is about to be told so
                wire.write(data)
            return WRITTEN
        due = self._due
        if not due:
            self._loop.call_soon(self._end_turn)
        due.append((wire, data))
        return self.turn

    def flush(self) -> None:
        """Write what is due, as it is to go before something else."""
        due = self._due
        while due:
            wire, data = due.popleft()
            try:
                if not wire.is_closing():
                    wire.write(data)
            except Exception:  # whatever is wrong with one, the others are written
                log.exception("write failed")

    def _end_turn(self) -> None:
        """When all is read that the loop found to be read."""
        little = 0 < len(self._due) < LITTLE  # none: it went before something else, which tells nothing
        self.turn += 1
        self.flush()
        if little and self._at_once_s:
            self.collects = False
            self._loop.call_later(self._at_once_s, self._try_again)

    def _try_again(self) -> None:
        self.collects = True
