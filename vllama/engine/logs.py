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


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMark:
    """How far a log was read: up to byte `offset` of `file` (device and inode; None: of whichever is there)."""

    offset: int = 0
    file: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """What came after a mark, and the mark after it. `passed_bytes` counts what was left out, too.

    `anew`: what an unfinished line before it goes on with is not here.
    """

    data: bytes
    mark: LogMark
    passed_bytes: int = 0
    anew: bool = False


def read_part(path: Path, after: LogMark) -> LogPart:
    """What was appended since: at most READ_LIMIT_BYTES; of more, the latest. Blocks on the file system.

    A log that was truncated or replaced is read from its start, after the rest of what it was, where that was kept as
    `path`.1. Never raises; what cannot be read is empty.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            file_now = (status.st_dev, status.st_ino)
            begun_anew = after.file not in {None, file_now} or status.st_size < after.offset
            rest = _rest(path, after.offset) if begun_anew else b""
            offset = 0 if begun_anew else after.offset
            skipped = max(0, status.st_size - offset - READ_LIMIT_BYTES)
            file.seek(offset + skipped)
            data = file.read(READ_LIMIT_BYTES)
    except (OSError, ValueError):
        return LogPart(data=b"", mark=after)
    return LogPart(
        data=rest + data if rest or not skipped else _whole_lines(data),
        mark=LogMark(offset=offset + skipped + len(data), file=file_now),
        passed_bytes=skipped + len(rest) + len(data), anew=not rest and (begun_anew or skipped > 0),
    )  # fmt: skip


def _rest(path: Path, offset: int) -> bytes:
    """What was written after the last look and before the log began anew."""
    try:
        with _rotated(path).open("rb") as file:
            file.seek(offset)
            return file.read(READ_LIMIT_BYTES)
    except (OSError, ValueError):
        return b""


def _whole_lines(data: bytes) -> bytes:
    """Without the end of a line whose beginning was skipped."""
    first, _, others = data.replace(b"\r", b"\n").partition(b"\n")
    return others if len(first) < len(data) else data


class LogLines:
    """Makes whole lines of the parts of a log. `seen_bytes` grows also where no line is complete yet."""

    def __init__(self, *, begin: int = 0) -> None:
        """`begin`: the byte where what matters begins, in the file as it is now."""
        self.mark = LogMark(offset=begin)
        self._partial = b""
        self.seen_bytes = 0

    def take(self, part: LogPart) -> tuple[str, ...]:
        self.mark = part.mark
        self.seen_bytes += part.passed_bytes
        pieces = _split((b"" if part.anew else self._partial) + part.data)
        self._partial = pieces.pop()[-LINE_LIMIT_CHARS:]
        return _decoded(pieces)


class LogReader:
    """Hands out what was appended to a log on this machine since the last time, in whole lines. Blocks."""

    def __init__(self, path: Path, *, begin: int = 0) -> None:
        self._path, self._lines = path, LogLines(begin=begin)

    @property
    def seen_bytes(self) -> int:
        return self._lines.seen_bytes

    def read(self) -> tuple[str, ...]:
        """Never raises; what cannot be read is empty."""
        return self._lines.take(read_part(self._path, self._lines.mark))


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
