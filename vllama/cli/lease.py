"""One manager per configuration directory, and the file by which the other commands find it."""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vllama.cli.wiring import CannotServe

LOCK, PID_FILE = "serve.lock", "server.pid"


@dataclass(slots=True)
class Lease:
    """Held until `release` or the end of the process."""

    config_dir: Path
    _lock: IO[str]
    _announced: bool = False

    def announce(self, *, host: str, port: int, certificate: Path | None = None) -> None:
        """Written whole, by rename: a reader sees all of it or none. `certificate`: a PEM file, where TLS is spoken.

        Never raises: on a disk that is full the other commands must be told --server, and models are served.
        """
        scheme = "http" if certificate is None else "https"
        inside = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        content = {
            "pid": os.getpid(), "host": host, "port": port, "url": f"{scheme}://{inside}:{port}",
            "start_time": time.time(), "config_dir": str(self.config_dir),
            "certificate": None if certificate is None else str(certificate),
        }  # fmt: skip
        path = self.config_dir / PID_FILE
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(content) + "\n")
            fresh.replace(path)
        except OSError:
            return
        self._announced = True

    def release(self) -> None:
        if self._announced:
            with contextlib.suppress(OSError):
                (self.config_dir / PID_FILE).unlink(missing_ok=True)
        self._lock.close()


def take(config_dir: Path) -> Lease:
    """Raises CannotServe where another manager has it, or it cannot be written."""
    try:
        config_dir.mkdir(parents=True, exist_ok=True)
        lock = (config_dir / LOCK).open("a+")
    except OSError as error:
        raise CannotServe(
            f"Cannot write to the configuration directory {config_dir}: {error.strerror}. "
            "Choose another with --config-dir."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        raise CannotServe(
            f"Another vllama already serves {config_dir}{_who(lock.read())}. "
            "Stop that one, or give this one its own directory: vllama serve --config-dir DIR --port PORT"
        ) from None
    with contextlib.suppress(OSError):  # a disk that is full: the lock holds, and only does not say who has it
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    return Lease(config_dir=config_dir, _lock=lock)


def _who(pid: str) -> str:
    return f" (pid {pid})" if pid.strip() else ""
