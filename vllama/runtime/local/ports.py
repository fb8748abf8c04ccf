"""Ports for engines. A port that can be bound now is locked by file until its engine is gone, for between choosing it
and the engine's own bind (seconds, in vLLM) another vllama of this machine might choose it too.

As long it is bound, without listening, with SO_REUSEADDR as vLLM binds it: else the kernel may give it to any program
that connects somewhere, as the range lies among those it gives out by itself. The race with programs that bind it in
between without SO_REUSEADDR is left: it is lost by the engine, and shows as a failed start.
"""

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vllama.runtime.base import LOOPBACK, RuntimeFailed


@dataclass(slots=True)
class Port:
    """Ours until `release`, or the end of this process."""

    number: int
    _lock: int
    _bound: socket.socket

    def release(self) -> None:
        if self._lock >= 0:
            self._bound.close()
            os.close(self._lock)
            self._lock = -1


def bindable(port: int) -> bool:
    bound = _bind(LOOPBACK, port, reuse=True)
    if bound is not None:
        bound.close()
    return bound is not None


def _bind(host: str, port: int, *, reuse: bool) -> socket.socket | None:
    """`reuse`: also where others have bound it so and nobody listens, or connections of late are still remembered."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        bound.bind((host, port))
    except OSError:
        bound.close()
        return None
    return bound


def free_port(ports: range, taken: Collection[int], *, after: int, host: str = LOOPBACK) -> Port:
    """The next port of the range past `after`, going round, that is not `taken`, nobody's and can be bound."""
    start = ports.index(after) + 1 if after in ports else 0
    numbers = [number for i in range(len(ports)) if (number := ports[(start + i) % len(ports)]) not in taken]
    for unused in (True, False):
        for number in numbers:
            if (port := claim(number, unused=unused, host=host)) is not None:
                return port
    raise RuntimeFailed(
        f"No free port between {ports.start} and {ports.stop - 1} for an engine. "
        "Set VLLAMA_VLLM_PORT_START and VLLAMA_VLLM_PORT_END to a range that other programs leave alone."
    )


def claim(number: int, *, unused: bool = False, host: str = LOOPBACK) -> Port | None:
    """None: somebody listens there, or another vllama has it.

    `unused`: nor has anybody bound it, as an engine does that loads and whose vllama was killed.
    """
    try:
        lock = os.open(_directory() / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE}:
            raise RuntimeFailed(f"No port can be looked at: {error.strerror}.") from error
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    probe = _bind(host, number, reuse=False) if unused else None
    if probe is not None:
        probe.close()
    bound = None if unused and probe is None else _bind(host, number, reuse=True)
    if bound is None:
        os.close(lock)
        return None
    return Port(number=number, _lock=lock, _bound=bound)


def _directory() -> Path:
    """Shared by all users of the machine, as ports are; empty files, of which only the locks count."""
    directory = Path(tempfile.gettempdir()) / "vllama-ports"
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o1777)
    return directory
