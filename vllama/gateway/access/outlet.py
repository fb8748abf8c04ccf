"""Writes to a file descriptor from a thread: a pipe that nobody empties holds up that thread, and nobody else."""

import contextlib
import os
import select
import stat
import threading
from collections.abc import Iterator
from queue import SimpleQueue


class Outlet:
    """One piece at a time: what `offer` takes is written before it takes more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._thread: threading.Thread | None = None

    def offer(self, lines: bytes) -> bool:
        """Whole lines. False: what was offered before is still being written."""
        if not self._idle.is_set():
            return False
        if self._thread is None:
            # A daemon: a pipe that is full when vllama ends must not keep it.
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()
        self._idle.clear()
        self._queue.put(lines)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Until all that was taken is written."""
        return self._idle.wait(timeout_s)

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            with contextlib.suppress(OSError):  # nobody reads any more, or the disk is full: the requests go on
                for piece in self._pieces(lines):
                    written = 0
                    while written < len(piece):
                        written += os.write(self._fd, piece[written:])
            self._idle.set()

    def _pieces(self, lines: bytes) -> Iterator[bytes]:
        """A pipe takes so much at once, in one piece; more could have the lines of others in it."""
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            yield lines
            return
        while lines:
            end = lines.rfind(b"\n", 0, select.PIPE_BUF) + 1 or len(lines)
            yield lines[:end]
            lines = lines[end:]
