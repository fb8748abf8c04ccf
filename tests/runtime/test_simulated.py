"""Made-up devices know who holds what."""

import os

from tests.simulator.hogs import hog
from tests.waiting import wait_until
from vllama.domain.units import GIB
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.simulator.devices import SimulatedDevices


def test_who_is_not_ours_is_named_with_what_it_holds(tmp_path):
    source = SimulatedDeviceSource(node="here", directory=tmp_path, totals=(8 * GIB, 8 * GIB))
    devices = SimulatedDevices(tmp_path)
    devices.claim(0, os.getpid(), GIB)
    ours = {os.getsid(0): "e1"}
    with hog(devices, "3GiB", device=1) as other:
        wait_until(lambda: devices.read()[1].claims, what="the hog holds memory")
        strangers = source.read({}).nodes[0].devices
        assert {each.pid: each.memory_bytes for each in strangers[0].foreign} == {os.getpid(): GIB}
        [foreign] = strangers[1].foreign
        assert (foreign.pid, foreign.memory_bytes) == (other.pid, 3 * GIB)
        assert foreign.name.startswith("python")
        reading = source.read(ours)  # the hog is in our session, too
        assert [device.foreign for device in reading.nodes[0].devices] == [(), ()]
        assert reading.measured_bytes == {"e1": 3 * GIB}
