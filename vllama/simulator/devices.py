"""Made-up devices that processes share through a directory, as they would share GPUs through a driver.

    DIRECTORY/totals        bytes per device, one per line
    DIRECTORY/lock          held (flock) by whoever claims
    DIRECTORY/INDEX/PID     "START_TIME BYTES [foreign]": what that process holds on that device

Every file is written whole, by rename, so a process killed at any moment leaves nothing half-written. A claim counts
only while its process lives: the number of a dead process may be given to another, hence the start time.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vllama.domain.units import format_bytes, parse_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """`foreign`: by a program that is no engine."""

    pid: int
    memory_bytes: int
    foreign: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReading:
    index: int
    total_bytes: int
    claims: tuple[Claim, ...]

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - sum(claim.memory_bytes for claim in self.claims)


class OutOfMemory(Exception):
    """A claim that does not fit beside the claims of the other live processes."""

    def __init__(self, *, index: int, wanted_bytes: int, free_bytes: int) -> None:
        super().__init__(f"device {index}: {format_bytes(wanted_bytes)} wanted, {format_bytes(free_bytes)} free")
        self.index = index
        self.wanted_bytes = wanted_bytes
        self.free_bytes = free_bytes


def parse_devices(text: str) -> tuple[int, ...]:
    """`2x24GiB` or `24GiB,80GiB` -> bytes per device. ValueError says what is accepted."""
    totals: list[int] = []
    for part in text.split(","):
        count, times, size = part.strip().rpartition("x")
        if times and not count.strip().isdigit():
            raise ValueError(f"{part.strip()!r} is not a device; write for example 24GiB or 2x24GiB")
        totals += [parse_bytes(size)] * (int(count) if times else 1)
    if not totals or 0 in totals:
        raise ValueError(f"{text!r} has a device without memory; write for example 2x24GiB or 24GiB,80GiB")
    return tuple(totals)


def process_start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process started (field 22 of /proc/PID/stat); None if it holds nothing.

    A zombie has given its memory back already, so it counts as gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name in brackets may hold spaces; field 3 is the first one after it
    return None if fields[0] in "ZX" else int(fields[19])


class SimulatedDevices:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self, totals: Sequence[int]) -> None:
        """Make the devices, `totals` bytes each. Claims that live processes already hold stay."""
        for index in range(len(totals)):
            (self.directory / str(index)).mkdir(parents=True, exist_ok=True)
        write_whole(self.directory / "totals", "".join(f"{total}\n" for total in totals))

    def claim(self, index: int, pid: int, memory_bytes: int, *, foreign: bool = False) -> None:
        """Set what `pid` holds on a device, in place of what it held. OutOfMemory if the others leave too little."""
        start_time = process_start_time(pid)
        if start_time is None:
            raise ProcessLookupError(f"process {pid} does not run, so it can hold no device memory")
        with self.locked():
            reading = self._read_device(index, self._total(index), sweep=True)
            others_bytes = sum(claim.memory_bytes for claim in reading.claims if claim.pid != pid)
            free_bytes = reading.total_bytes - others_bytes
            if memory_bytes > free_bytes:
                raise OutOfMemory(index=index, wanted_bytes=memory_bytes, free_bytes=free_bytes)
            mark = " foreign" if foreign else ""
            write_whole(self.directory / str(index) / str(pid), f"{start_time} {memory_bytes}{mark}\n")

    def release(self, index: int, pid: int) -> None:
        (self.directory / str(index) / str(pid)).unlink(missing_ok=True)

    def read(self) -> tuple[DeviceReading, ...]:
        """What live processes hold now. FileNotFoundError if the devices were never created."""
        return tuple(self._read_device(index, total) for index, total in enumerate(self._totals()))

    def _totals(self) -> list[int]:
        return [int(line) for line in (self.directory / "totals").read_text().split()]

    def _total(self, index: int) -> int:
        totals = self._totals()
        if not 0 <= index < len(totals):
            raise ValueError(f"there is no device {index}: {self.directory} has {len(totals)}")
        return totals[index]

    def _read_device(self, index: int, total_bytes: int, *, sweep: bool = False) -> DeviceReading:
        claims: list[Claim] = []
        for path in (self.directory / str(index)).iterdir():
            if not path.name.isdigit():  # a file on its way to its name
                continue
            try:
                start_time, memory_bytes, *mark = path.read_text().split()
            except FileNotFoundError:
                continue
            if process_start_time(int(path.name)) == int(start_time):
                claims.append(Claim(pid=int(path.name), memory_bytes=int(memory_bytes), foreign=bool(mark)))
            elif sweep:
                path.unlink(missing_ok=True)
        return DeviceReading(
            index=index, total_bytes=total_bytes, claims=tuple(sorted(claims, key=lambda claim: claim.pid))
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        with (self.directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)
