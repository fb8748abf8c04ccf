"""One engine process: its own session and group, output appended to a file, its end seen through a pidfd."""

import asyncio
import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vllama.runtime.base import NoProcess, ProcessExit, RuntimeFailed
from vllama.runtime.local.identity import Identity
from vllama.runtime.local.ports import Port
from vllama.runtime.local.proc import Process, process

_NO_PROCESS = frozenset({errno.EAGAIN, errno.ENOMEM})  # of fork(2)


@dataclass(slots=True, eq=False)
class Leader:
    """The API server of an engine: session and group leader. `popen` is None where an earlier manager started it.

    `process` is None where only its descendants are left.
    """

    identity: Identity
    sid: int
    since_ticks: int
    started_at: float
    process: Process | None
    popen: subprocess.Popen[bytes] | None = None
    port: Port | None = None
    exit: ProcessExit | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _pidfd: int | None = None

    def watch(self, bell: Callable[[], None]) -> None:
        """Learn of the end of the leader without polling. OSError: there is no file descriptor left for that."""
        if self.process is None:
            self._over()
            return
        try:
            self._pidfd = os.pidfd_open(self.process.pid)
        except ProcessLookupError:
            self._over()
            return
        seen = process(self.process.pid)
        if seen is None or seen.start_ticks != self.process.start_ticks:
            self._over()
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self._ended, bell)

    def _ended(self, bell: Callable[[], None]) -> None:
        self.unwatch()
        self._over()
        bell()

    def _over(self) -> None:
        code = None
        if self.popen is not None:
            with contextlib.suppress(OSError):
                code = self.popen.wait()  # it is dead: this reaps, and does not wait
        self.exit = ProcessExit(code=code)
        self.gone.set()

    def unwatch(self) -> None:
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None


def spawn(identity: Identity, argv: tuple[str, ...], env: Mapping[str, str], port: Port) -> Leader:
    """Blocks for the fork. RuntimeFailed when the program cannot be run or the log not be written.

    NoProcess where the machine has none left.
    """
    try:
        with Path(identity.log).open("ab") as log:
            popen = subprocess.Popen(  # argv is built by engine/command, never a shell
                argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, close_fds=True, cwd="/",
            )  # fmt: skip
    except OSError as error:
        if error.errno in _NO_PROCESS:
            raise NoProcess(
                f"Cannot start the engine of {identity.model}: the machine starts no further process "
                f"({error.strerror}). Too many run, or memory is short: see `ulimit -u`, systemd's TasksMax=, docker's "
                "--pids-limit."
            ) from error
        raise RuntimeFailed(f"Cannot start the engine of {identity.model}: {error}.") from error
    try:
        seen = process(popen.pid)
    except OSError as error:
        end(popen)
        raise RuntimeFailed(f"The engine of {identity.model} was started, but cannot be seen: {error}.") from error
    if seen is None:
        raise RuntimeFailed(f"The engine of {identity.model} was gone the moment it was started; see {identity.log}.")
    return Leader(
        identity=identity, sid=popen.pid, since_ticks=seen.start_ticks, started_at=seen.started_at, process=seen,
        popen=popen, port=port,
    )  # fmt: skip


def end(popen: subprocess.Popen[bytes]) -> None:
    """What has only just begun, and nobody could watch over. Blocks for the kernel's moment."""
    popen.kill()
    popen.wait()
