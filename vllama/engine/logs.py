"""An engine's log as it grows, and the shape of its lines. Nothing here raises on odd bytes or absent files."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vllama.domain.units import KIB, MIB

READ_LIMIT_BYTES = MIB
LINE_LIMIT_CHARS = 16_384

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(
    r"(?:\((?P<process>[^()]*pid=\d+[^()]*)\) )?"
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (?:\[[^\]]*\] ?)?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line without vLLM's prefix. `process` as in `Worker_TP0 pid=17`; `level` None where it has none."""

    text: str
    process: str | None
    level: str | None


def parse_line(line: str) -> LogLine:
    plain = _COLOUR.sub("", line)
    match = _PREFIX.match(plain)
    assert match is not None  # noqa: S101  every part of the pattern is optional
    return LogLine(text=plain[match.end() :].rstrip(), process=match["process"], level=match["level"])


class LogReader:
    """Hands out what was appended to a log since the last time, in whole lines.

    At most READ_LIMIT_BYTES per call: of more, the latest. A log that was truncated or replaced is read from its
    start, after the rest of what it was, where that was kept as `path`.1.
    `seen_bytes` grows with every sign of life, also where no line is complete yet. Blocks on the file system.
    """

    def __init__(self, path: Path, *, begin: int = 0) -> None:
        """`begin`: the byte where what matters begins, in the file as it is now."""
        self._path = path
        self._file: tuple[int, int] | None = None  # device and inode
        self._offset = begin
        self._partial = b""
        self.seen_bytes = 0

    def read(self) -> tuple[str, ...]:
        """Never raises; what cannot be read is empty."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                file_now = (status.st_dev, status.st_ino)
                replaced = self._file is not None and file_now != self._file
                self._file = file_now
                rest = b""
                if replaced or status.st_size < self._offset:
                    rest = self._rest()
                    self._offset = 0
                    self._partial = self._partial if rest else b""
                skipped = max(0, status.st_size - self._offset - READ_LIMIT_BYTES)
                file.seek(self._offset + skipped)
                data = file.read(READ_LIMIT_BYTES)
        except (OSError, ValueError):
            return ()
        self._offset += skipped + len(data)
        self.seen_bytes += skipped + len(rest) + len(data)
        return self._lines(rest + data, skipped=skipped > 0 and not rest)

    def _rest(self) -> bytes:
        """What was written after the last look and before the log began anew."""
        try:
            with _rotated(self._path).open("rb") as file:
                file.seek(self._offset)
                return file.read(READ_LIMIT_BYTES)
        except (OSError, ValueError):
            return b""

    def _lines(self, data: bytes, *, skipped: bool) -> tuple[str, ...]:
        pieces = _split((b"" if skipped else self._partial) + data)
        self._partial = pieces.pop()[-LINE_LIMIT_CHARS:]
        if skipped and pieces:
            del pieces[0]  # the end of a line whose beginning was skipped
        return _decoded(pieces)


def read_tail(path: Path, *, limit_bytes: int = 256 * KIB) -> tuple[str, ...]:
    """The last lines of a log, for a cause of death, also where it has begun anew since.

    Empty where it cannot be read. Blocks on the file system.
    """
    data, whole = _end(path, limit_bytes)
    if whole and len(data) < limit_bytes:
        before, whole = _end(_rotated(path), limit_bytes - len(data))
        data = before + data
    pieces = _split(data)
    return _decoded(pieces if whole else pieces[1:])


def _end(path: Path, limit_bytes: int) -> tuple[bytes, bool]:
    """The last bytes, and whether they are all that there are."""
    try:
        with path.open("rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - limit_bytes)
            file.seek(start)
            return file.read(limit_bytes), start == 0
    except (OSError, ValueError):
        return b"", True


def _rotated(path: Path) -> Path:
    """What a log was before it began anew, as whoever rotates it calls it."""
    return path.with_name(f"{path.name}.1")


def _split(data: bytes) -> list[bytes]:
    """Progress bars overwrite themselves with carriage returns: each of their states is a line here."""
    return data.replace(b"\r", b"\n").split(b"\n")


def _decoded(pieces: list[bytes]) -> tuple[str, ...]:
    return tuple(piece[:LINE_LIMIT_CHARS].decode(errors="replace") for piece in pieces if piece.strip())
