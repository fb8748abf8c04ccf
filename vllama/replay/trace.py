"""Who asked for which model, when, and for how long: as a CSV file with the header `at_s,model,busy_s`."""

import csv
import gzip
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

COLUMNS = ("at_s", "model", "busy_s")
LATEST_S = 1e11  # as seconds since 1970 that is a time that no clock shows


class TraceError(ValueError):
    """What is wrong with a trace, with its file and line, for a person."""


@dataclass(frozen=True, slots=True)
class Request:
    """It comes at `at_s`, and from when its model takes it, it keeps that busy for `busy_s`. Seconds."""

    at_s: float
    model: str
    busy_s: float


@dataclass(frozen=True)
class Trace:
    """In the order of arrival. `at_s` may count from anywhere: only the differences matter."""

    requests: tuple[Request, ...]

    @classmethod
    def of(cls, requests: Iterable[Request]) -> "Trace":
        """Sorted by arrival; who came at the same moment stays in the order given."""
        return cls(tuple(sorted(requests, key=lambda request: request.at_s)))

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Sorted."""
        return tuple(sorted({request.model for request in self.requests}))

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return self.requests[-1].at_s - self.requests[0].at_s if self.requests else 0.0


def read_trace(path: Path, *, sound_only: bool = False) -> Trace:
    """`path` may end in .gz. Lines may be in any order, and have further columns. Raises TraceError.

    `sound_only`: lines with mistakes are left out: where they were written when a machine failed.
    """
    try:
        opens = gzip.open if path.suffix == ".gz" else open
        with opens(path, "rt", encoding="utf-8-sig", newline="") as file:
            return Trace.of(_requests(csv.reader(file), str(path), sound_only=sound_only))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except (EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: not a CSV file, or cut off ({error}).") from None


def parse_trace(text: str, name: str = "trace") -> Trace:
    """Raises TraceError."""
    return Trace.of(_requests(csv.reader(io.StringIO(text, newline="")), name, sound_only=False))


def write_trace(trace: Iterable[Request], path: Path) -> None:
    """`path` may end in .gz. Raises OSError."""
    if path.suffix == ".gz":
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:  # the same bytes every time
            packed.write(trace_text(trace).encode())
    else:
        path.write_text(trace_text(trace), encoding="utf-8", newline="")


def trace_text(trace: Iterable[Request]) -> str:
    """To the millisecond."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((_number(each.at_s), each.model, _number(each.busy_s)) for each in trace)
    return text.getvalue()


def _number(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _requests(rows: Iterable[list[str]], name: str, *, sound_only: bool) -> Iterator[Request]:
    lines = iter(enumerate(rows, start=1))
    number, header = next(lines, (1, list[str]()))
    header = [cell.strip() for cell in header]
    if missing := [column for column in COLUMNS if column not in header]:
        raise TraceError(f"{name}:{number}: no column {missing[0]}; the first line must be `{','.join(COLUMNS)}`.")
    places = [header.index(column) for column in COLUMNS]
    models: dict[str, str] = {}  # one string per model, however long the trace
    for number, row in lines:
        if not row or row == [""]:
            continue
        where = f"{name}:{number}"
        try:
            if len(row) <= max(places):
                raise TraceError(f"{where}: {len(row)} columns, where the header has {len(header)}.")  # noqa: TRY301  # the same for all mistakes
            at_s, model, busy_s = _request(*(row[place] for place in places), where=where)
        except TraceError:
            if not sound_only:
                raise
        else:
            yield Request(at_s, models.setdefault(model, model), busy_s)


def _request(at: str, model: str, busy: str, *, where: str) -> tuple[float, str, float]:
    if not model.strip():
        raise TraceError(f"{where}: no model.")
    return _seconds(at, "at_s", where), model.strip(), _seconds(busy, "busy_s", where)


def _seconds(text: str, column: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise TraceError(f"{where}: {column} is {text!r}, which is not a number of seconds.") from None
    if not 0 <= seconds < LATEST_S or math.isnan(seconds):
        raise TraceError(f"{where}: {column} is {text.strip()}; a number of seconds from 0 on is needed.")
    return seconds
