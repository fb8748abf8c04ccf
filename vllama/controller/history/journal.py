"""The file of a history: lines of JSON, appended, with one older part. All of it blocks; none of it raises."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from vllama.controller.history.records import Record, line_of, record_of

MAX_BYTES = 8 << 20  # of each part
MOST_PENDING = 20_000  # lines that a disk did not take yet


class Journal:
    """`error`: why the last attempt to write failed; None: it did not."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path, self._older, self._max_bytes = path, path.with_name(f"{path.name}.1"), max_bytes
        self._pending: deque[Callable[[], Record]] = deque(maxlen=MOST_PENDING)
        self._writing = threading.Lock()
        self.error: str | None = None

    @property
    def path(self) -> Path:
        return self._path

    def add(self, record: Callable[[], Record]) -> None:
        """Touches no disk. `record` is called when it is written, in the thread that does that."""
        self._pending.append(record)

    def load(self) -> tuple[list[Record], list[str]]:
        """What the file has, oldest first, and what of it could not be understood or read: a sentence per part."""
        found, problems = list[Record](), list[str]()
        for path in (self._older, self._path):
            wrong = 0
            try:
                for line in _lines(path):
                    try:
                        found.append(record_of(line))
                    except ValueError:
                        wrong += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{path} cannot be read: {error.strerror or error}.")
            if wrong:
                problems.append(f"{wrong} lines of {path} are no records of a history; they are left out.")
        return found, problems

    def write(self) -> None:
        """Everything that was added. What the disk does not take is kept for the next time, the latest of it."""
        with self._writing:
            records = [self._pending.popleft() for _ in range(len(self._pending))]
            if not records:
                return
            try:
                self._append(b"".join(line_of(record()) for record in records))
                self.error = None
            except OSError as error:
                self.error = f"{self._path}: {error.strerror or error}"
                room = MOST_PENDING - len(self._pending)
                self._pending.extendleft(reversed(records[-room:] if room else []))

    def _append(self, lines: bytes) -> None:
        """All of it or nothing: half a line would be one that nobody understands."""
        with self._path.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            if before and not _ends_a_line(self._path):
                lines = b"\n" + lines  # whoever wrote here before was cut short
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(before)
                raise
            after = file.tell()
        if after > self._max_bytes:
            self._path.replace(self._older)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.strip())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
