"""Made-up devices as a DeviceSource. They know exactly who holds what, and may be told not to say."""

from collections.abc import Mapping
from pathlib import Path

from vllama.domain.observed import Device, ForeignProcess, Node
from vllama.domain.units import GIB
from vllama.runtime.base import Reading
from vllama.runtime.local.proc import name_of, process
from vllama.simulator.devices import SimulatedDevices

HOST_BUDGET_BYTES = 128 * GIB


class SimulatedDeviceSource:
    def __init__(self, *, node: str, directory: Path, totals: tuple[int, ...], tells_processes: bool = True) -> None:
        """`totals` in bytes per device. Claims of processes that still live are kept.

        `tells_processes` False: only what all hold of a device is told, as by a driver whose pids are not ours.
        """
        self._node = node
        self._count = len(totals)
        self._tells_processes = tells_processes
        self._devices = SimulatedDevices(directory)
        self._devices.create(totals)

    def indices(self) -> tuple[int, ...]:
        return tuple(range(self._count))

    def used(self) -> dict[int, int | None]:
        return {each.index: each.total_bytes - each.free_bytes for each in self._devices.read()}

    def read(self, sessions: Mapping[int, str]) -> Reading:
        measured = dict.fromkeys(sessions.values(), 0)
        devices = []
        for reading in self._devices.read():
            foreign = []
            for claim in reading.claims:
                seen = process(claim.pid)
                engine_id = sessions.get(seen.sid) if seen else None
                if engine_id is not None:
                    measured[engine_id] = max(measured[engine_id], claim.memory_bytes)
                else:
                    name = name_of(claim.pid) or "?"
                    foreign.append(ForeignProcess(pid=claim.pid, name=name, memory_bytes=claim.memory_bytes))
            used = reading.total_bytes - reading.free_bytes
            devices.append(
                Device(
                    index=reading.index, name=f"simulated {reading.index}", total_bytes=reading.total_bytes,
                    used_bytes=used, foreign=tuple(foreign),
                )
            )  # fmt: skip
        node = Node(
            name=self._node, devices=tuple(devices), host_budget_bytes=HOST_BUDGET_BYTES, sleep_frees_memory=True
        )  # fmt: skip
        return Reading(nodes=(node,), measured_bytes=measured if self._tells_processes else {})
