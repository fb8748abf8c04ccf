"""Two locks in the directory of a machine: one that the agent holds while it lives, one that its keeper holds.

The kernel gives a lock back when its process ends, however it ends.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

AGENT, KEEPER = "agent.lock", "keeper.lock"
LOOK_S = 0.1


class Lock:
    """A file that one process holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self) -> bool:
        """False: somebody else has it. Raises OSError where the file cannot be made."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def take_within(self, seconds: float, *, clock: Callable[[], float]) -> bool:
        """Blocks."""
        end = clock() + seconds
        while not self.take():
            if clock() >= end:
                return False
            time.sleep(LOOK_S)
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def is_free(self) -> bool:
        if not self.take():
            return False
        self.release()
        return True


def directory_of(home: Path, engine_owner: str) -> Path:
    return home / ".vllama" / "ray" / engine_owner


def start_keeper(directory: Path, engine_owner: str, *, grace_s: float, environ: Mapping[str, str]) -> None:
    """Unless there is one. A session of its own: what ends its agent does not end it. Blocks for the fork.

    Its parent is gone at once, so that nobody but the kernel has to see to its end.
    """
    if not Lock(directory / KEEPER).is_free():
        return
    with (directory / "keeper.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-c", _BEGET, str(directory), engine_owner, str(grace_s)], stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True, close_fds=True, cwd="/", check=False,
            env=dict(environ),
        )  # fmt: skip


_BEGET = """\
import os, sys
if os.fork() == 0:
    os.execv(sys.executable, [sys.executable, "-m", "vllama.runtime.ray.keeper", *sys.argv[1:]])
"""
