"""Ports for engines. A port that can be bound now is locked by file until its engine is gone, for between choosing it
and the engine's own bind (seconds, in vLLM) another vllama of this machine might choose it too.

The race with other programs is left: it is lost by the engine, and shows as a failed start.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vllama.runtime.base import RuntimeFailed


@dataclass(slots=True)
class Port:
    """Ours until `release`, or the end of this process."""

    number: int
    _lock: int

    def release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(ports: range, taken: Collection[int], *, after: int) -> Port:
    """The next port of the range past `after`, going round, that is not `taken`, nobody's and can be bound."""
    start = ports.index(after) + 1 if after in ports else 0
    for i in range(len(ports)):
        number = ports[(start + i) % len(ports)]
        if number not in taken and (port := claim(number)) is not None:
            return port
    raise RuntimeFailed(
        f"No free port between {ports.start} and {ports.stop - 1} for an engine. "
        "Set VLLAMA_VLLM_PORT_START and VLLAMA_VLLM_PORT_END to a range that other programs leave alone."
    )


def claim(number: int) -> Port | None:
    """None: it is bound by somebody, or another vllama has it."""
    try:
        lock = os.open(_directory() / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    if bindable(number):
        return Port(number=number, _lock=lock)
    os.close(lock)
    return None


def _directory() -> Path:
    """Shared by all users of the machine, as ports are; empty files, of which only the locks count."""
    directory = Path(tempfile.gettempdir()) / "vllama-ports"
    with contextlib.suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o1777)
    return directory
