"""What is written in one turn of the loop is written at its end, all together, as long as that is more than a little.

A write to a socket of this machine wakes whoever reads there. Among the reads of a busy turn each write would find the
engine, or the client, asleep again, and waking it is what costs. Where turns have little to write there is nothing to
gain, and what is written is written at once; now and then it is tried again.
"""

import asyncio
from typing import Protocol

import structlog

log = structlog.get_logger("vllama")
LITTLE = 3


class Late(Protocol):
    def flush(self) -> None:
        """Write what is due, if it still is."""
        ...


class Outbox:
    """Look at `collects` for each write; where it is so, `add` whoever writes when it is told to.

    It stays so as long as something waits, so that nothing overtakes it.
    """

    __slots__ = ("_at_once_s", "_due", "_loop", "collects")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, at_once_s: float) -> None:
        """`at_once_s`: so long writes are at once, where a turn had little."""
        self._loop = loop
        self._due: list[Late] = []
        self._at_once_s = at_once_s
        self.collects = True

    def add(self, late: Late) -> None:
        """`late.flush` is called when all is read that the loop found to be read in this turn."""
        if not self._due:
            self._loop.call_soon(self._flush)
        self._due.append(late)

    def _flush(self) -> None:
        due, self._due = self._due, []
        for late in due:
            try:
                late.flush()
            except Exception:  # whatever is wrong with one, the others are written
                log.exception("write failed")
        if len(due) < LITTLE and not self._due and self._at_once_s:
            self.collects = False
            self._loop.call_later(self._at_once_s, self._try_again)

    def _try_again(self) -> None:
        self.collects = True
