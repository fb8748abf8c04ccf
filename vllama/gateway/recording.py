"""Which model was asked for when, and for how long an engine here was busy with it: for `vllama simulate`.

Three fields per request and nothing else: no content, no client, no key. One append on the data path; written every few
seconds from a thread, to a file that only its owner can read, and that is kept within bounds.
"""

import asyncio
import contextlib
import csv
import io
import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vllama.domain.units import MIB
from vllama.gateway.metrics.finished import Finished

RECORDING = "requests.csv"  # of the configuration directory
EVERY_S = 5.0
MOST_BYTES = 8 * MIB  # about 200,000 requests; the file before it is kept, too
MOST_WAITING = 100_000  # requests, to be written
HEADER = "at_s,model,busy_s\n"


class Recording:
    """`path` is a trace: `at_s` counts from 1970. What it was before it became too long is beside it, with `.1`."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, every_s: float = EVERY_S,
        most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        self._path, self._clock, self._every_s, self._most_bytes = path, clock, every_s, most_bytes
        self._kept = array("d")  # ended, number of the model, took, waited: numbers alone cost the least, of many
        self._numbers: dict[str, int] = {}

    def add(self, one: Finished) -> None:
        """Who never came to an engine is left out; and who went elsewhere needed no memory here."""
        if one.elsewhere:
            return
        wait_s, duration_s = one.wait_s, one.duration_s
        if one.model and wait_s < duration_s and len(self._kept) < 4 * MOST_WAITING:
            number = self._numbers.setdefault(one.model, len(self._numbers))
            self._kept.extend((self._clock(), number, duration_s, wait_s))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if self._kept:
                await asyncio.to_thread(self._write, *self._taken())

    def close(self) -> None:
        """Blocks."""
        if self._kept:
            self._write(*self._taken())

    def _taken(self) -> tuple[Sequence[float], Sequence[str]]:
        """What is kept, and the names of its models by number."""
        kept, names = self._kept, tuple(self._numbers)
        self._kept, self._numbers = array("d"), {}
        return kept, names

    def _write(self, kept: Sequence[float], names: Sequence[str]) -> None:
        """In one piece. A disk that refuses costs only the record."""
        fields = [_field(name) for name in names]
        each = zip(kept[0::4], kept[1::4], kept[2::4], kept[3::4], strict=True)
        text = "".join(
            [f"{ended - took:.3f},{fields[int(number)]},{took - waited:.3f}\n" for ended, number, took, waited in each]
        )
        with contextlib.suppress(OSError), os.fdopen(self._opened(), "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            # a piece that was cut off must not make one line with the next
            first = "" if size and os.pread(file.fileno(), 1, size - 1) == b"\n" else "\n" if size else HEADER
            file.write((first + text).encode())

    def _opened(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size >= self._most_bytes:
                self._path.replace(before(self._path))
        return os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _field(name: str) -> str:
    """As CSV has it."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="").writerow((name,))
    return text.getvalue()


def before(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def recorded(path: Path) -> Iterator[Path]:
    """The files of a recording that are there, the older one first."""
    return (each for each in (before(path), path) if each.exists())
