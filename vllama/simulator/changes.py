"""Changes of device memory under way: vLLM survives no other one on its device, neither side of it.

    DIRECTORY/changes/PID     "START_TIME WHAT INDEX,INDEX": loads, sleeps or wakes on these devices now
    DIRECTORY/collisions      a line for every two that met, ever

Who profiles takes a neighbour's doing for its own, and who sleeps asserts that more memory is free than before
(vllm-project/vllm#56830, #55827, #45620, #36753). A manager must never let it come to that, so it is counted.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vllama.simulator.devices import SimulatedDevices, process_start_time, write_whole

_SPOILT = "spoilt"


class Collided(Exception):
    """Somebody else changed what they hold of the same device meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    path: Path
    pid: int
    start_time: int
    what: str
    indices: frozenset[int]


class Changes:
    def __init__(self, devices: SimulatedDevices) -> None:
        self._devices = devices
        self._directory = devices.directory / "changes"

    @contextmanager
    def change(self, what: str, indices: Sequence[int]) -> Iterator[None]:
        """While inside, this process changes what it holds. Collided, at the end, in everybody who met."""
        mine = self._directory / str(os.getpid())
        with self._devices.locked():
            self._directory.mkdir(exist_ok=True)
            met = [other for other in self._under_way() if other.indices & set(indices)]
            for other in met:
                other.path.write_text(f"{other.path.read_text().rstrip()} {_SPOILT}\n")
                self.note(f"{what} of {mine.name} during the {other.what} of {other.pid}")
            listed = ",".join(map(str, indices))
            spoilt = f" {_SPOILT}" if met else ""
            write_whole(mine, f"{process_start_time(os.getpid())} {what} {listed}{spoilt}\n")
        try:
            yield
        finally:
            with self._devices.locked():
                collided = _SPOILT in mine.read_text()
                mine.unlink()
        if collided:
            raise Collided(f"another process changed its memory during this {what}")

    def note(self, collision: str) -> None:
        with (self._devices.directory / "collisions").open("a") as file:
            file.write(collision + "\n")

    def noted(self) -> bool:
        """Whether the change of this process has met another one already."""
        return _SPOILT in (self._directory / str(os.getpid())).read_text()

    def collisions(self) -> tuple[str, ...]:
        """All that ever met on these devices, a line each."""
        try:
            return tuple((self._devices.directory / "collisions").read_text().splitlines())
        except FileNotFoundError:
            return ()

    def _under_way(self) -> Iterator[_Change]:
        """Of the living, this process left out."""
        for path in self._directory.iterdir():
            if not path.name.isdigit() or int(path.name) == os.getpid():
                continue
            start_time, what, indices, *_ = path.read_text().split()
            change = _Change(
                path=path, pid=int(path.name), start_time=int(start_time), what=what,
                indices=frozenset(map(int, indices.split(","))),
            )  # fmt: skip
            if process_start_time(change.pid) == change.start_time:
                yield change
            else:
                path.unlink()
