"""The logs of engines under a bound, while the engines go on writing them.

An engine holds its file open for as long as it lives, so the file cannot be moved from under it: it would write on into
the old one. It is copied and then cut to nothing. The engine appends (O_APPEND), so its next line stands at the
beginning of the file that is empty now, not behind a hole. Lines that come between the last look at the copy and the
cut are lost: microseconds, once in `max_bytes`.
"""

import asyncio
import contextlib
import os
from pathlib import Path

EVERY_S = 1.0
_CHUNK_BYTES = 1 << 20


async def keep_bounded(directory: Path, *, max_bytes: int, backups: int) -> None:
    """Until cancelled."""
    while True:
        await asyncio.to_thread(rotate_all, directory, max_bytes=max_bytes, backups=backups)
        await asyncio.sleep(EVERY_S)


def rotate_all(directory: Path, *, max_bytes: int, backups: int) -> None:
    """All `*.log` that are too large, but the manager's own, which has a hand for it. Never raises OSError."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if not entry.name.endswith(".log") or entry.name == "vllama.log":
                continue
            with contextlib.suppress(OSError):
                if entry.stat().st_size > max_bytes:
                    rotate(Path(entry.path), backups=backups)


def rotate(path: Path, *, backups: int) -> None:
    """`path` goes on empty; what it had is `path`.1, what that was is .2, and so on; the oldest goes.

    A disk that is full keeps no copy: that the log is bounded matters more. Raises OSError.
    """
    for number in range(backups - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            numbered(path, number).replace(numbered(path, number + 1))
    with path.open("r+b") as log:
        if backups:
            _copy(log.fileno(), numbered(path, 1))
        os.ftruncate(log.fileno(), 0)


def numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _copy(log: int, to: Path) -> None:
    """Until nothing more comes."""
    try:
        with to.open("wb", buffering=0) as copy:
            while chunk := os.read(log, _CHUNK_BYTES):
                copy.write(chunk)
    except OSError:
        to.unlink(missing_ok=True)
